"""Keeps the cache below a size: built images, bases, layers and packages go, the longest unused first."""

from __future__ import annotations

import time
from pathlib import Path

from baremetal.images.layers import LayerStore, remove
from baremetal.images.locks import alone

DEFAULT_LIMIT = 20 << 30  # bytes; builds keep the cache below it


def prune(cache: Path, limit_bytes: int, *, keep_s: float = 60.0) -> int:
    """Remove until everything fits; returns bytes freed. What was used in the last `keep_s` stays.

    Does nothing (-1) while a build runs: it stands on layers that look unused.
    """
    with alone(cache) as nobody_builds:
        if not nobody_builds:
            return -1
        found = things(cache)
        total, freed = sum(size for _, size, _ in found), 0
        for used, size, path in sorted(found):
            if total - freed <= limit_bytes or used > time.time() - keep_s:
                break
            remove(path)
            freed += size
        return freed


def things(cache: Path) -> list[tuple[float, int, Path]]:
    """(last used, bytes, path) of everything that may go."""
    store = LayerStore(cache)
    store.sweep()
    found = [(layer.used, layer.size, store.root / layer.key) for layer in store.list()]
    for directory in (*(cache / "images").glob("[0-9a-f]*"), *(cache / "bases").glob("[0-9a-f]*")):
        size = sum(file.stat().st_blocks * 512 for file in directory.iterdir() if file.is_file())
        found.append((directory.stat().st_mtime, size, directory))
    for package in (cache / "dib").rglob("*.deb"):
        st = package.stat()
        found.append((st.st_mtime, st.st_size, package))
    return found
