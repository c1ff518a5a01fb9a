"""Keeps the cache below a size: built images, bases, layers and packages go, the longest unused first."""

from __future__ import annotations

import time
from pathlib import Path

from baremetal.images.contents import room
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
    """(last used, bytes on the disk, path) of everything that may go."""
    store = LayerStore(cache)
    store.sweep()
    found = [(layer.used, layer.room or layer.size, store.root / layer.key) for layer in store.list()]
    for directory in (*(cache / "images").glob("[0-9a-f]*"), *(cache / "bases").glob("[0-9a-f]*")):
        found.append((directory.stat().st_mtime, room(directory), directory))
    for package in (cache / "dib").rglob("*.deb"):
        found.append((package.stat().st_mtime, room(package), package))
    return found


def totals(cache: Path) -> dict[str, int]:
    """Bytes on the disk of each kind of thing that is kept."""
    found = dict.fromkeys(("layers", "images", "bases", "packages"), 0)
    for _, size, path in things(cache):
        found["packages" if path.suffix == ".deb" else path.parent.name] += size
    return found
