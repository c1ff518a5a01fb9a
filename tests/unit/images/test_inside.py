"""Links of a tree lead where they would inside it, never to this machine's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from baremetal.images.inside import inside

LINKS = {  # in the tree
    "var/log": "/data/log",
    "up": "../../../../etc",
    "a": "b",
    "b": "a",
    "tmp": "/var/tmp",
    "chain": "tmp/below",
}
CASES = [  # asked for        is
    ("var/log", "data/log"),
    ("/var/log/x", "data/log/x"),
    ("up/passwd", "etc/passwd"),
    ("tmp/in", "var/tmp/in"),
    ("chain/../x", "var/tmp/x"),
    ("../../..", "."),
    ("not/there", "not/there"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "var").mkdir()
    for name, target in LINKS.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize(("asked", "found"), CASES)
def test_a_path_of_the_tree(tree: Path, asked: str, found: str) -> None:
    assert inside(tree, asked) == tree / found


def test_links_in_a_circle_are_refused(tree: Path) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        inside(tree, "a/x")
