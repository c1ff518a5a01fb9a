"""What a build leaves: a directory under cache/images with its files and meta.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


def load_result(directory: Path) -> BuildResult | None:
    """A stored build, or None when it is not there or files are missing, cut or changed."""
    try:
        meta = json.loads((directory / "meta.json").read_text())
        for name, size in meta["files"].items():
            found = (directory / name).stat()
            if found.st_size != size or found.st_mtime_ns != meta.get("dates", {}).get(name, found.st_mtime_ns):
                return None
    except (OSError, ValueError, KeyError):
        return None
    name, kind = meta["name"], meta["kind"]
    images = [directory / f for f in meta["files"] if f not in ABOUT]
    main = directory if kind == "ramdisk" or not images else _main_file(images)
    return BuildResult(name, meta["id"], kind, main, directory, cached=True, files=images, steps=meta["steps"])


def _main_file(images: Sequence[Path]) -> Path:
    order = (".qcow2", ".raw", ".zst", ".squashfs", ".tar", ".tgz")
    return min(images, key=lambda path: order.index(path.suffix) if path.suffix in order else len(order))
