"""Keeps the cache below a size: built images, bases, layers, packages and sources go, the longest unused first."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
    for path in _fetched(cache / "dib"):
        found.append((path.lstat().st_mtime, room(path), path))
    return found


def _fetched(dib: Path) -> Iterator[Path]:
    """Package files, and what else elements keep in $DIB_IMAGE_CACHE: clones of repositories, tarballs."""
    yield from (dib / "apt").rglob("*.deb")
    for path in dib.iterdir() if dib.is_dir() else ():
        if path.name not in ("apt", "locks"):
            yield from path.iterdir() if path.is_dir() and not path.is_symlink() else [path]


def totals(cache: Path) -> dict[str, int]:
    """Bytes on the disk of each kind of thing that is kept."""
    found = dict.fromkeys(("layers", "images", "bases", "packages", "sources"), 0)
    for _, size, path in things(cache):
        kind = path.relative_to(cache).parts[0]
        found[kind if kind != "dib" else "packages" if path.suffix == ".deb" else "sources"] += size
    return found
