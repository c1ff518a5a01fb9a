"""Keeps the cache below a size: built images, layers and packages go, the longest unused first."""

from __future__ import annotations

import time
from pathlib import Path

from baremetal.images.layers import LayerStore, remove


def prune(cache: Path, limit_bytes: int) -> int:
    """Remove until layers and images fit; returns bytes freed. What was used in the last minute stays."""
    things: list[tuple[float, int, Path]] = []
    store = LayerStore(cache)
    store.sweep()
    for layer in store.list():
        things.append((layer.used, layer.size, store.root / layer.key))
    for path in (cache / "images").glob("[0-9a-f]*"):
        size = sum(file.stat().st_blocks * 512 for file in path.iterdir() if file.is_file())
        things.append((path.stat().st_mtime, size, path))
    for path in (cache / "dib").rglob("*.deb"):
        st = path.stat()
        things.append((st.st_mtime, st.st_size, path))
    total = sum(size for _, size, _ in things)
    freed = 0
    for used, size, path in sorted(things):
        if total - freed <= limit_bytes or used > time.time() - 60:
            break
        remove(path)
        freed += size
    return freed
