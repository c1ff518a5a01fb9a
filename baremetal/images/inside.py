"""Paths of a tree as a program inside it would see them.

A tree's own symbolic links may be absolute: `/var/log -> /data/log` means a
place in the tree, but the build machine's when it is followed from outside.
Imported by stage.py in the namespace: standard library only.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MOST_LINKS = 40  # as the kernel's own limit (path_resolution(7))


def inside(root: Path, path: str) -> Path:
    """Where `path` of the tree at `root` lies, all links followed; never outside of `root`. It need not exist."""
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    found: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            found = found[:-1]
            continue
        here = Path(root, *found, part)
        if not here.is_symlink():
            found.append(part)
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)
        if target.startswith("/"):
            found = []
        todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    return Path(root, *found)
