"""Layers on disk: one directory per key, written aside and renamed when whole.

cache/layers/<key>/{tree/, hooks/, out/, meta.json, index}; `out` is what scripts left
in the directory they were run in. A layer whose files no longer match the seal
taken when it was kept is dropped, and built again. So is one whose bytes changed
without a new date, as soon as they are read again (rereading.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from baremetal.images import drafts, rereading
from baremetal.images.contents import content, index_text, seal, write_index
from baremetal.images.contents import walk as walk
from baremetal.images.drafts import remove as remove


@dataclass
class Layer:
    """What one phase left."""

    key: str
    phase: str
    content: str  # digest over names, modes, owners, data: equal content, equal layers above
    seal: str  # digest over names, sizes, mtimes of the tree: cheap to check
    inputs: dict[str, str]
    image: str = ""
    binds: list[list[str]] = field(default_factory=list)
    scripts: list[list[object]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    size: int = 0
    room: int = 0  # bytes it takes on the disk; not known of older layers
    made: float = 0.0
    used: float = 0.0
    beside: str = ""  # the same of hooks and out; older layers have none


class LayerStore:
    """The layers under one cache directory."""

    def __init__(self, cache: Path) -> None:
        self.root = cache / "layers"
        self.root.mkdir(parents=True, exist_ok=True)

    def tree(self, key: str) -> Path:
        return self.root / key / "tree"

    def hooks(self, key: str) -> Path:
        return self.root / key / "hooks"

    def out(self, key: str) -> Path:
        return self.root / key / "out"

    def find(self, key: str) -> Layer | None:
        """A whole, undamaged layer, or None."""
        try:
            return Layer(**json.loads((self.root / key / "meta.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def sound(self, layer: Layer, *, read: bool = False) -> bool:
        """True when it is as it was kept; a damaged layer is removed. `read`: every byte, whenever it was read last."""
        try:
            whole = self._as_kept(layer, read)
        except OSError:
            whole = False
        if not whole:
            self.drop(layer.key)
        return whole

    def _as_kept(self, layer: Layer, read: bool) -> bool:
        place = self.root / layer.key
        tree, hooks, out = (seal(place / name) for name in ("tree", "hooks", "out"))
        if tree.digest != layer.seal or layer.beside not in ("", f"{hooks.digest} {out.digest}"):
            return False
        changed_ns = max(tree.changed_ns, hooks.changed_ns, out.changed_ns)
        if not read and not rereading.due(place, changed_ns):
            return True
        found = content(place)
        if found.digest != layer.content or index_text(place) not in ("", found.index):
            return False
        rereading.was_read(place)
        return True

    def touch(self, layer: Layer) -> None:
        with contextlib.suppress(OSError):
            os.utime(self.root / layer.key / "meta.json")

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """A directory to write a layer in; gone afterwards unless keep() renamed it."""
        with drafts.draft(self.root) as path:
            for name in ("tree", "hooks", "out", "work", "hookwork"):
                (path / name).mkdir()
            yield path

    def keep(self, draft: Path, layer: Layer) -> Layer:
        """Make the draft the layer of this key."""
        for name in ("work", "hookwork"):
            remove(draft / name)
        layer.seal = seal(draft / "tree").digest
        found = content(draft)
        layer.content, layer.size, layer.room = found.digest, found.size, found.room
        write_index(draft, found.index)
        layer.beside = " ".join(seal(draft / name).digest for name in ("hooks", "out"))
        layer.made = time.time()
        (draft / "meta.json").write_text(json.dumps(asdict(layer)))
        rereading.was_read(draft)
        target = self.root / layer.key
        remove(target)
        os.rename(draft, target)
        return layer

    def drop(self, key: str) -> None:
        remove(self.root / key)

    def list(self) -> list[Layer]:
        """Every layer, least recently used first."""
        found = []
        for path in self.root.iterdir():
            layer = None if path.name.startswith(".") else self.find(path.name)
            if layer:
                layer.used = (path / "meta.json").stat().st_mtime
                found.append(layer)
        return sorted(found, key=lambda layer: layer.used)

    def sweep(self) -> None:
        """Remove what killed builds left."""
        drafts.sweep(self.root)
