"""A layer's changes done to a plain directory: what is added, replaced and taken away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baremetal.images import uppers


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def seen(root: Path) -> dict[str, str]:
    """Every entry: a file's text, where a link leads, or a slash."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = f"-> {path.readlink()}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
    return found


def test_files_and_links_are_added_and_replaced(tmp_path: Path) -> None:
    below = plant(tmp_path / "below", {"a/kept": "k", "a/old": "o", "file": "f", "dir/x": "x"})
    upper = plant(tmp_path / "upper", {"a/old": "new", "a/more": "m", "file/now": "a directory"})
    (upper / "dir").symlink_to("a")
    uppers.apply(upper, below)
    wanted = {"a": "/", "a/kept": "k", "a/old": "new", "a/more": "m", "file": "/", "file/now": "a directory"}
    assert seen(below) == {**wanted, "dir": "-> a"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes whiteouts")
def test_whiteouts_take_away(tmp_path: Path) -> None:
    below = plant(tmp_path / "below", {"a/gone": "g", "a/kept": "k", "dir/x": "x", "veiled/old": "o"})
    upper = plant(tmp_path / "upper", {"a/other": "o", "veiled/new": "n"})
    for name in ("a/gone", "dir", "never-there"):
        os.mknod(upper / name, 0o20000, 0)
    os.setxattr(upper / "veiled", "trusted.overlay.opaque", b"y")
    uppers.apply(upper, below)
    assert seen(below) == {"a": "/", "a/kept": "k", "a/other": "o", "veiled": "/", "veiled/new": "n"}
