"""Half-made disks: the partitions with what the steady layers gave, kept between builds with their clusters compressed.

cache/bases/<key>/{disk.raw, meta.json, clusters-*}. The key is a digest of every
command and file that made the disk. Every build passes through such a base, so
it gives the same bytes whether it found one or made one. A disk or clusters that
are not as they were kept are made again (rereading.py says when all bytes are read).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from baremetal.images import drafts, rereading
from baremetal.images.drafts import remove

KEPT = 2  # bases of one image
BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Base:
    """One kept disk. Without a cache it is a scratch file."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.raw"

    def sound(self, *, read: bool = False) -> bool:
        """True when the disk is as it was kept. `read`: every byte, whenever it was read last."""
        try:
            return as_kept(self.disk, json.loads((self.directory / "meta.json").read_text()), read=read)
        except (OSError, ValueError):
            return False


def stamped(file: Path) -> dict[str, object]:
    """What a kept file is known by: size, date, and a digest of its bytes."""
    return {"stamp": _stamp(file), "digest": digest(file)}


def as_kept(file: Path, kept: object, *, read: bool = False) -> bool:
    """True when a file is still what stamped() saw; its bytes are read when that is due, or asked for."""
    if not isinstance(kept, dict) or kept.get("stamp") != _stamp(file) or "digest" not in kept:
        return False
    if read or rereading.due(file, file.stat().st_ctime_ns):
        if kept["digest"] != digest(file):
            return False
        rereading.was_read(file)
    return True


def digest(file: Path) -> str:
    """SHA-256 over the blocks that are not all zeros, with their places: holes need not be read."""
    found, zeros, after = hashlib.sha256(), bytes(BLOCK), 0
    with open(file, "rb") as disk:
        size = os.fstat(disk.fileno()).st_size
        for start, end in data_extents(disk.fileno(), size):
            for number in range(max(after, start // BLOCK), -(-end // BLOCK)):
                data = os.pread(disk.fileno(), BLOCK, number * BLOCK)
                after = number + 1
                if data != zeros[: len(data)]:
                    found.update(b"%d " % number + data)
    return found.hexdigest()


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
        meta = {"name": name, **stamped(draft / "disk.raw")}
        (draft / "meta.json").write_text(json.dumps(meta))
        rereading.was_read(draft / "disk.raw")
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


def place(area: Path, disk: Path, offset: int) -> None:
    """Copy what is not a hole of one file into another, so many bytes further on."""
    with open(area, "rb") as a, open(disk, "r+b") as b:
        for start, end in data_extents(a.fileno(), os.fstat(a.fileno()).st_size):
            at = start
            while at < end:
                at += os.copy_file_range(a.fileno(), b.fileno(), end - at, at, offset + at)


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
