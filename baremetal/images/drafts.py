"""Directories that are written aside and renamed when whole; what a killed build left of them is swept away.

A draft is locked while its writer lives, so sweeping never takes one that is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def draft(root: Path) -> Iterator[Path]:
    """A new directory under `root`; gone afterwards unless it was renamed."""
    path = root / f".draft-{os.getpid()}-{time.monotonic_ns():x}"
    path.mkdir(parents=True)
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        os.close(lock)
        remove(path)


def sweep(root: Path) -> None:
    """Remove the drafts under `root` whose writer is dead."""
    for path in root.glob(".draft-*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def remove(path: Path) -> None:
    """rm -rf that also enters directories without permission bits (overlay work directories have none)."""

    def open_up(function: object, name: str, _exc: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(name), 0o700)
            os.chmod(name, 0o700)
            shutil.rmtree(name) if os.path.isdir(name) and not os.path.islink(name) else os.unlink(name)

    if path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path, onerror=open_up)
