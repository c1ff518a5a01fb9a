"""What keeps builds apart: one build of an image at a time, one writer of the package cache, a directory each."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from baremetal.images.errors import CacheRefused
from baremetal.images.layers import remove


def own(cache: Path) -> None:
    """CacheRefused unless nobody but us (and root) can put layers into this cache, which we would take for ours."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        found = cache.stat()
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CacheRefused(f"{cache} cannot hold a cache: {exc.strerror}", fix="another --cache-dir") from exc
    if found.st_uid not in (0, os.geteuid()) and not _taken_back(cache):
        raise CacheRefused(
            f"{cache} belongs to user {found.st_uid}, who could change what is built from it",
            fix=f"another --cache-dir, or: sudo chown -R --no-dereference {os.geteuid()} {cache}",
        )
    if found.st_mode & stat.S_IWOTH:
        raise CacheRefused(f"anybody may write to {cache}", fix=f"another --cache-dir, or: chmod o-w {cache}")


def _taken_back(cache: Path) -> bool:
    """Root takes back a directory that only by itself was handed to a server's user: all that lies in it is root's."""
    owners = {path.name: path.lstat().st_uid for path in cache.iterdir()}
    if os.geteuid() != 0 or "locks" not in owners or any(owners.values()):
        return False
    os.chown(cache, 0, -1)
    return True


@contextlib.contextmanager
def locked(cache: Path, name: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """One build of an image at a time; the second says that it waits, and finds it done."""
    with _flock(cache / "locks" / f"{name}.lock", waiting=lambda: waiting("wait for the other build of this image")):
        yield


@contextlib.contextmanager
def apt_lock(cache: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Builds share one package cache; apt allows one writer."""
    with _flock(cache / "locks" / ".phases.lock", waiting=lambda: waiting("wait for another build")):
        yield


@contextlib.contextmanager
def building(cache: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """A build runs: nothing is pruned. It waits, and says so, while the whole cache is read (`image cache verify`)."""
    with _flock(cache / "locks/.builds", fcntl.LOCK_SH, lambda: waiting("wait for the cache to be looked through")):
        yield


@contextlib.contextmanager
def alone(cache: Path) -> Iterator[bool]:
    """True while no build runs, and none can begin; False at once when one does."""
    try:
        with _flock(cache / "locks/.builds", fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield True
    except BlockingIOError:
        yield False


@contextlib.contextmanager
def _flock(path: Path, how: int = fcntl.LOCK_EX, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        if waiting:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
        fcntl.flock(file, how)
        yield


@contextlib.contextmanager
def scratch(cache: Path, name: str) -> Iterator[Path]:
    """A directory for one build; what a killed build left is cleared first."""
    root = cache / "work"
    root.mkdir(parents=True, exist_ok=True)
    for old in root.glob("*"):
        pid = old.name.rpartition(".")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            remove(old)
    path = root / f"{name}.{os.getpid()}"
    remove(path)
    path.mkdir()
    try:
        yield path
    finally:
        remove(path)
