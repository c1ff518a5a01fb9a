"""Reads every byte the cache holds; what is not as it was kept is removed, and made again by the next build."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from baremetal.images import bases, packagefiles
from baremetal.images.layers import LayerStore, remove
from baremetal.images.locks import alone
from baremetal.images.results import load_result


@dataclass(frozen=True)
class Damaged:
    """One thing that was removed: layer, image, base, clusters or package, its name, and the image it was of."""

    kind: str
    name: str
    image: str = ""


Progress = Callable[[str, str, float], None]
"""Called with (kind, name, fraction of the whole)."""


def verify(cache: Path, progress: Progress) -> list[Damaged] | None:
    """What was damaged, and is gone now; None while a build runs, which may stand on it."""
    with alone(cache) as nobody_builds:
        if not nobody_builds:
            return None
        places = [path for kind in _CHECKS for path in sorted((cache / kind).glob("[0-9a-f]*"))]
        found: list[Damaged] = []
        for number, path in enumerate(places):
            progress(path.parent.name, path.name, number / len(places))
            found += _CHECKS[path.parent.name](path)
        progress("packages", "", 1.0)
        return [*found, *(Damaged("package", name) for name in packagefiles.look(cache, read=True))]


def _layer(path: Path) -> Iterator[Damaged]:
    store = LayerStore(path.parent.parent)
    layer = store.find(path.name)
    if layer is None or layer.key != path.name:
        remove(path)
        yield Damaged("layer", path.name)
    elif not store.sound(layer, read=True):
        yield Damaged("layer", path.name, layer.image)


def _image(path: Path) -> Iterator[Damaged]:
    name = _name(path)
    if load_result(path, read=True) is None:
        remove(path)
        yield Damaged("image", path.name, name)


def _base(path: Path) -> Iterator[Damaged]:
    name = _name(path)
    if not bases.Base(path).sound(read=True):
        if not _of_an_older_version(path):
            yield Damaged("base", path.name, name)
        remove(path)
        return
    for index in path.glob("clusters-*.json"):
        data = index.with_suffix(".bin")
        if not _clusters_whole(data, index):
            remove(index)
            remove(data)
            yield Damaged("clusters", f"{path.name}/{data.name}", name)


def _of_an_older_version(path: Path) -> bool:
    """A base that was kept without a digest says nothing of its bytes, and no build takes it."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return "digest" not in json.loads((path / "meta.json").read_text())
    return False


def _clusters_whole(data: Path, index: Path) -> bool:
    try:
        return bases.as_kept(data, json.loads(index.read_text()), read=True)
    except (OSError, ValueError):
        return False


def _name(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((path / "meta.json").read_text())["name"])
    return ""


_CHECKS: dict[str, Callable[[Path], Iterator[Damaged]]] = {"layers": _layer, "bases": _base, "images": _image}
