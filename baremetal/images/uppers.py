"""What an overlayfs layer says was changed, done to a plain directory: added, replaced, and taken away.

A whiteout is a character device 0:0, a directory that hides the one below it
has the attribute `opaque` (kernel: Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from baremetal.images.contents import is_opaque


def apply(upper: Path, target: Path) -> None:
    """Make `target` what it looks like through `upper`."""
    with os.scandir(upper) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            _apply(Path(entry.path), target / entry.name, entry.stat(follow_symlinks=False))


def _apply(source: Path, there: Path, st: os.stat_result) -> None:
    if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
        _remove(there)
    elif stat.S_ISDIR(st.st_mode):
        if is_opaque(str(source)) or there.is_symlink() or not there.is_dir():
            _remove(there)
        there.mkdir(exist_ok=True)
        apply(source, there)
        shutil.copystat(source, there)
    else:
        _remove(there)
        shutil.copy2(source, there, follow_symlinks=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
