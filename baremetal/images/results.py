"""What a build leaves: a directory under cache/images with its files and meta.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baremetal.images import rereading
from baremetal.images.contents import file_sha256

# What tells about the image, beside the image.
ABOUT = ("packages.json", "sbom.cdx.json", "provenance.json", "files.txt", "meta.json")


@dataclass
class BuildResult:
    """What a build gave. `path` is the main file (qcow2, or the ramdisk's directory)."""

    name: str
    id: str
    kind: str
    path: Path
    directory: Path
    cached: bool
    files: list[Path] = field(default_factory=list)
    steps: list[dict[str, object]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    log_dir: Path | None = None
    ran: dict[str, float] = field(default_factory=dict)  # step -> seconds, of those that were not cached


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of each file of a build, by name."""
    return {path.name: file_sha256(str(path)) for path in sorted(directory.iterdir()) if path.is_file()}


def described(directory: Path, known: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What the files of a build will be known by: sizes, dates, and the digests that were taken."""
    found = {path.name: path.stat() for path in sorted(directory.iterdir()) if path.is_file()}
    return {
        "files": {name: st.st_size for name, st in found.items()},
        "dates": {name: st.st_mtime_ns for name, st in found.items()},
        "digests": dict(known),
    }


def load_result(directory: Path, *, read: bool = False) -> BuildResult | None:
    """A stored build, or None when it is not there, or not as it was kept. `read`: whenever that was looked at last."""
    try:
        meta = json.loads((directory / "meta.json").read_text())
        if not _as_kept(directory, meta, read):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    name, kind = meta["name"], meta["kind"]
    images = [directory / f for f in meta["files"] if f not in ABOUT]
    main = directory if kind == "ramdisk" or not images else _main_file(images)
    return BuildResult(name, meta["id"], kind, main, directory, cached=True, files=images, steps=meta["steps"])


def _as_kept(directory: Path, meta: Mapping[str, Any], read: bool) -> bool:
    found = {name: (directory / name).stat() for name in meta["files"]}
    dates = meta.get("dates", {})
    if any(st.st_size != meta["files"][n] or st.st_mtime_ns != dates.get(n, st.st_mtime_ns) for n, st in found.items()):
        return False
    if read or rereading.due(directory, max((st.st_ctime_ns for st in found.values()), default=0)):
        taken = meta.get("digests", {})
        if any(file_sha256(str(directory / name)) != digest for name, digest in taken.items()):
            return False
        rereading.was_read(directory)
    return True


def _main_file(images: Sequence[Path]) -> Path:
    order = (".qcow2", ".raw", ".zst", ".squashfs", ".tar", ".tgz")
    return min(images, key=lambda path: order.index(path.suffix) if path.suffix in order else len(order))
