"""disk-image-create's call shape as a Definition: `-a amd64 -o NAME -t qcow2 -p pkg -n ELEMENT…`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from baremetal.images.definition import FORMATS, Definition, Disk
from baremetal.images.errors import BadDefinition

# What diskimage-builder can write and we leave to it.
DIB_FORMATS = ("vhd", "docker", "aci")


@dataclass(frozen=True)
class Call:
    """The arguments of one classic call."""

    elements: tuple[str, ...]
    output: str = "image"
    arch: str = "amd64"
    types: tuple[str, ...] = ("qcow2",)
    packages: tuple[str, ...] = ()
    skip_base: bool = False
    trace: int = 0
    image_size_gib: str = ""
    uncompressed: bool = False
    root_label: str = ""
    install_type: str = ""


def definition(call: Call, env: Mapping[str, str]) -> Definition:
    """What to build; DIB_* and what else elements read comes from the environment."""
    name = Path(call.output).name
    for kind in FORMATS:
        name = name.removesuffix(f".{kind}")
    name = re.sub(r"[^a-z0-9._-]", "-", name.lower())
    base = () if call.skip_base else ("base",)
    passed = {key: value for key, value in env.items() if key.startswith("DIB_") or key in ("break",)}
    passed |= {key: value for key, value in env.items() if key in ("FS_TYPE", "ROOT_LABEL")}
    if call.trace:
        passed["DIB_DEBUG_TRACE"] = str(call.trace)
    if call.install_type:
        passed["DIB_DEFAULT_INSTALLTYPE"] = call.install_type
    return Definition(
        name=name,
        elements=(*base, *call.elements),
        arch=call.arch,
        formats=_formats(call.types),
        packages=call.packages,
        env=passed,
        disk=_disk(call, passed),
    )


def _disk(call: Call, env: Mapping[str, str]) -> Disk:
    size = call.image_size_gib or env.get("DIB_IMAGE_SIZE", "")
    label = call.root_label or env.get("ROOT_LABEL", "") or "cloudimg-rootfs"
    try:
        size_bytes = int(float(size) * (1 << 30)) if size else 0
    except ValueError as exc:
        raise BadDefinition(f"--image-size {size!r} is not a number of GB") from exc
    return Disk(
        size_bytes=size_bytes,
        root_label=label,
        filesystem=env.get("FS_TYPE", "ext4"),
        compression="none" if call.uncompressed else "zstd",
        layout="elements",
    )


def _formats(types: Sequence[str]) -> tuple[str, ...]:
    for kind in types:
        if kind in DIB_FORMATS:
            raise BadDefinition(f"format {kind} is written by diskimage-builder only", fix="add --engine dib")
        if kind not in FORMATS:
            raise BadDefinition(f"unknown format {kind!r}", fix=f"one of {', '.join(FORMATS)}")
    return tuple(types)
