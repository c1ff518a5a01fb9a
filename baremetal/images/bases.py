"""Half-made disks: the partitions with what the steady layers gave, kept between builds with their clusters compressed.

cache/bases/<key>/{disk.raw, meta.json, clusters-*}. The key is a digest of every
command and file that made the disk. Every build passes through such a base, so
it gives the same bytes whether it found one or made one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from baremetal.images import drafts
from baremetal.images.drafts import remove

KEPT = 2  # bases of one image


@dataclass(frozen=True)
class Base:
    """One kept disk. Without a cache it is a scratch file."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.raw"

    def sound(self) -> bool:
        """True when the disk has the size and date it was kept with."""
        try:
            return bool(json.loads((self.directory / "meta.json").read_text())["stamp"] == _stamp(self.disk))
        except (OSError, ValueError, KeyError, TypeError):
            return False


def obtain(root: Path, key: str, name: str, make: Callable[[Path], None]) -> Base:
    """The base of this key, found or made. `name`: the image's, of which the newest KEPT stay."""
    base = Base(root / key)
    if base.sound():
        with contextlib.suppress(OSError):
            os.utime(base.directory)
        return base
    remove(base.directory)
    with drafts.draft(root) as draft:
        make(draft / "disk.raw")
        meta = {"name": name, "stamp": _stamp(draft / "disk.raw")}
        (draft / "meta.json").write_text(json.dumps(meta))
        os.rename(draft, base.directory)
    for old in _of_image(root, name)[KEPT:]:
        remove(old)
    return base


def _of_image(root: Path, name: str) -> list[Path]:
    """The bases of one image, most recently used first."""
    found = []
    for path in root.glob("[0-9a-f]*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads((path / "meta.json").read_text())["name"] == name:
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


def _stamp(disk: Path) -> list[int]:
    st = disk.stat()
    return [st.st_size, st.st_mtime_ns]


def copy_sparse(source: Path, target: Path) -> None:
    """A copy with the same holes; shared blocks where the file system can."""
    with open(source, "rb") as a, open(target, "wb") as b:
        size = os.fstat(a.fileno()).st_size
        os.truncate(b.fileno(), size)
        for start, end in data_extents(a.fileno(), size):
            at = start
            while at < end:
                done = os.copy_file_range(a.fileno(), b.fileno(), end - at, at, at)
                if not done:
                    break
                at += done


def data_extents(fd: int, size: int) -> list[tuple[int, int]]:
    """(start, end) of what is not a hole, in bytes."""
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break  # ENXIO: no data from here to the end
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    return found
