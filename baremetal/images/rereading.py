"""When the bytes of a thing in the cache are read again: sizes and dates say nothing of a disk that forgets.

An empty file beside each thing says, by its own date, when all bytes were last
found right. They are read again after a week, or when the inode of a file was
changed since (its ctime, which no program can set back: an edit that restored
the old date, a cache that was copied).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

AGAIN_S = 7 * 86400.0
MARK = ".read"  # a file of this name in a directory, or with this ending beside a file


def marker(thing: Path) -> Path:
    """Where the date of the last reading is kept."""
    return thing / MARK if thing.is_dir() else thing.with_name(thing.name + MARK)


def due(thing: Path, changed_ns: int) -> bool:
    """True when its bytes are to be read; `changed_ns`: the newest ctime of its files."""
    try:
        read_ns = marker(thing).stat().st_mtime_ns
    except OSError:
        return True
    return stale(read_ns / 1e9, changed_ns / 1e9)


def stale(read: float, changed: float) -> bool:
    """True when what was read then (s) is to be read again; so it is when the clock was set back.

    A change of the very same tick counts as later (the kernel's dates stand still for up to 10 ms).
    """
    return changed >= read or not 0 <= time.time() - read < AGAIN_S


def was_read(thing: Path) -> None:
    """All its bytes were found right just now; a disk too full to say so only costs another reading."""
    with contextlib.suppress(OSError):
        marker(thing).touch()
        os.utime(marker(thing))
