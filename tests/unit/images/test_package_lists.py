"""Package lists that would be passed by, or break in the middle of a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from baremetal.images import packagelists
from baremetal.images.elements import Element
from baremetal.images.errors import BadElement

LISTS = [  # file, text, what is told
    ("yaml", "vim:\ntmux: {phase: post-install.d}\nless:\n  - {arch: amd64}\n  - {when: A=b}\n", []),
    ("json", '{"vim": {"phase": "install.d"}}', []),
    (
        "yaml",
        "vim: {phase: install}\n",
        ["e: package-installs.yaml: vim is never installed: phase 'install' is none of"],
    ),
]
BROKEN = [
    ("yaml", "vim: {", "neither YAML nor JSON"),
    ("json", "{'a'", "neither YAML nor JSON"),
    ("yaml", "- vim\n- tmux\n", "not a list of packages"),
    ("yaml", "", "not a list of packages"),
    ("yaml", "vim: yes please\n", "vim: 'yes please' is no setting"),
    ("yaml", "vim: [1]\n", "vim: 1 is no setting"),
]


def told(place: Path, kind: str, text: str, *more: str) -> list[str]:
    (place / f"package-installs.{kind}").write_text(text)
    return list(packagelists.warnings([Element("e", place), *(Element(name, place / name) for name in more)]))


@pytest.mark.parametrize(("kind", "text", "said"), LISTS)
def test_what_is_never_installed_is_told(tmp_path: Path, kind: str, text: str, said: list[str]) -> None:
    found = told(tmp_path, kind, text, "package-installs")
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


def test_a_list_nobody_reads_is_told(tmp_path: Path) -> None:
    assert "none of these elements needs package-installs" in told(tmp_path, "yaml", "vim:\n")[0]


@pytest.mark.parametrize(("kind", "text", "said"), BROKEN)
def test_a_broken_list_is_refused_with_its_element(tmp_path: Path, kind: str, text: str, said: str) -> None:
    with pytest.raises(BadElement, match=said) as caught:
        told(tmp_path, kind, text)
    assert caught.value.brief.startswith(f"e: package-installs.{kind}")
