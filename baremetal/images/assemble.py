"""The last stage of a build: the finished tree becomes files to keep.

Runs like stage.py inside the private namespace, with all layers stacked
read-only at build/mnt.
"""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baremetal.errors import BaremetalError
from baremetal.images import convert, cpio, disk, inventory, mounts, nodes
from baremetal.images.errors import BuildFailed, NoSpace
from baremetal.images.inside import inside
from baremetal.images.layout import Layout, Part


@dataclass
class Spec:
    """What to make of the tree. Sizes in bytes. `steady`: how many of the lowest layers change seldom."""

    name: str
    kind: str
    build: str
    lowers: list[str]
    out: str
    formats: list[str]
    identity: dict[str, Any]
    layout: dict[str, Any]
    size_bytes: int = 0
    extra_bytes: int = 0
    cluster_bytes: int = 2 << 20
    compression: str = "zstd"
    ramdisk_level: int = 19
    steady: int = 0
    bases: str = ""
    result: dict[str, Any] = field(default_factory=dict)


def main(argv: list[str]) -> int:
    spec = Spec(**json.loads(Path(argv[0]).read_text()))
    mnt = Path(spec.build, "mnt")
    mounts.overlay(mnt, [Path(p) for p in spec.lowers], None, None)
    try:
        make(spec, mnt)
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
        print(json.dumps(_told(NoSpace(f"{spec.name}: no space left for the image", detail=str(exc)))))
        return 3
    except BaremetalError as exc:
        print(json.dumps(_told(exc)))
        return 3
    return 0


def _told(exc: BaremetalError) -> dict[str, str]:
    """The last line of the log, which running.py reads."""
    fix = exc.fix
    if "No space left on device" in exc.detail:
        fix = "make room: baremetal image cache prune --limit 5GiB, or use another --cache-dir"
    return {"brief": exc.brief, "detail": exc.detail, "fix": fix, "type": type(exc).__name__}


def make(spec: Spec, tree: Path) -> None:
    """Every requested format, and the list of what is inside."""
    out = Path(spec.out)
    epoch = int(spec.identity["epoch"])
    found = nodes.read(tree, [Path(lower) for lower in spec.lowers])
    inventory.write(found, out, name=spec.name, epoch=epoch, status=_dpkg_status(spec))
    if spec.kind == "ramdisk":
        make_ramdisk(spec, tree, out, epoch)
    elif spec.kind == "tree":
        pass
    else:
        make_disk(spec, tree, found, out)
    for name in spec.formats:
        if name in ("tar", "tgz"):
            convert.tar(tree, out / f"{spec.name}.{name}", epoch)
        elif name == "squashfs":
            convert.squashfs(tree, out / f"{spec.name}.squashfs", epoch)


def _dpkg_status(spec: Spec) -> Path | None:
    """The newest dpkg status in any layer: a ramdisk's own tree has shed it by the end."""
    found = (inside(Path(layer), "var/lib/dpkg/status") for layer in spec.lowers)
    return next((path for path in found if path.is_file()), None)


def make_disk(spec: Spec, tree: Path, found: Sequence[nodes.Node], out: Path) -> None:
    """The disk in the formats asked for."""
    ids = disk.Identity(**spec.identity)
    wanted_layout = Layout(spec.layout["label"], tuple(Part(**part) for part in spec.layout["parts"]))
    wanted = [name for name in spec.formats if name in ("qcow2", "raw", "raw.zst")]
    if not wanted:
        return
    raw = out / f"{spec.name}.raw"
    size = disk.disk_bytes(found, wanted_layout, spec.size_bytes, spec.extra_bytes, spec.name)
    kept = Path(spec.bases or Path(spec.build, "bases"))
    work = disk.Work(spec.name, tree, found, spec.steady, Path(spec.build), kept)
    base = disk.assemble(work, raw, wanted_layout.placed(size, spec.name), ids, size)
    if "qcow2" in wanted:
        target, cluster = out / f"{spec.name}.qcow2", spec.cluster_bytes
        convert.qcow2(raw, target, cluster=cluster, compression=spec.compression, base=base)
    if "raw.zst" in wanted:
        convert.raw_zst(raw, out / f"{spec.name}.raw.zst", name=spec.name, epoch=ids.epoch)
    if "raw" not in wanted:
        raw.unlink()


def make_ramdisk(spec: Spec, tree: Path, out: Path, epoch: int) -> None:
    """Kernel and a zstd cpio of everything but /boot."""
    kernels = sorted(inside(tree, "boot").glob("vmlinuz-*"), key=_by_version)
    if not kernels:
        raise BuildFailed(
            f"{spec.name}: no kernel in /boot", fix="add linux-image-cloud-amd64 to an element's packages"
        )
    (out / "kernel").write_bytes(inside(tree, f"boot/{kernels[-1].name}").read_bytes())
    cpio.write_zstd(tree, out / "initrd", epoch=epoch, skip=("boot",), level=spec.ramdisk_level)


def _by_version(path: Path) -> list[int | str]:
    """6.1.0-10 after 6.1.0-9."""
    return [int(word) if word.isdigit() else word for word in re.split(r"([0-9]+)", path.name)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
