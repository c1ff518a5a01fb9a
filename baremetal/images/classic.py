"""disk-image-create's call shape as a Definition: `-a amd64 -o NAME -t qcow2 -p pkg -n ELEMENT…`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from baremetal.images.definition import FILESYSTEMS, FORMATS, PACKAGE, Definition, Disk, cluster_bytes
from baremetal.images.environment import ambient
from baremetal.images.errors import BadDefinition

LARGEST_BYTES = 8 << 40  # of a disk; a sparse file on ext4 ends at 16 TiB
LONGEST_NAME = 64
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
    extra_size_gib: str = ""  # free space beside the tree
    uncompressed: bool = False
    root_label: str = ""
    install_type: str = ""
    qemu_img_options: str = ""
    mkfs_options: str = ""
    journal_mib: str = ""
    max_online_resize: str = ""  # in file-system blocks, as mke2fs' -E resize=


def definition(call: Call, env: Mapping[str, str]) -> Definition:
    """What to build; DIB_* and what else elements read comes from the environment."""
    if call.arch not in ("amd64", "x86_64"):
        raise BadDefinition(f"images for {call.arch} are not made here", fix="amd64, or add --engine dib")
    name = Path(call.output).name
    for kind in FORMATS:
        name = name.removesuffix(f".{kind}")
    name = re.sub(r"[^a-z0-9._-]", "-", name.lower())[:LONGEST_NAME].lstrip(".-_")
    if not name:
        raise BadDefinition(f"-o {call.output}: no name for an image", fix="end it with letters or digits: -o DIR/NAME")
    _check(call)
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
        arch="amd64",
        formats=_formats(call.types),
        packages=call.packages,
        env=passed,
        ambient=ambient(env),
        disk=_disk(call, passed),
    )


def changed(found: Definition, call: Call, *, types_given: bool) -> Definition:
    """A definition with what the command line says otherwise."""
    _check(call)
    if call.arch != found.arch:
        raise BadDefinition(f"{found.name} is for {found.arch}, not {call.arch}", fix="leave -a out")
    env = dict(found.env)
    if call.trace:
        env["DIB_DEBUG_TRACE"] = str(call.trace)
    if call.install_type:
        env["DIB_DEFAULT_INSTALLTYPE"] = call.install_type
    disk = replace(found.disk, **_qemu_img(call.qemu_img_options))
    if call.image_size_gib:
        disk = replace(disk, size_bytes=_gib(call.image_size_gib))
    if call.extra_size_gib:
        disk = replace(disk, extra_bytes=_gib(call.extra_size_gib, "--image-extra-size"))
    if call.root_label:
        disk = replace(disk, root_label=call.root_label)
    if call.uncompressed:
        disk = replace(disk, compression="none")
    disk = replace(disk, mkfs=" ".join(filter(None, (found.disk.mkfs, _mkfs(call, {})))))
    formats = _formats(call.types) if types_given else found.formats
    return replace(found, env=env, disk=disk, formats=formats, packages=(*found.packages, *call.packages))


def _check(call: Call) -> None:
    """BadDefinition for words that would mislead a script much later."""
    if call.install_type not in ("", "source", "package"):
        raise BadDefinition(f"--install-type {call.install_type!r} is neither", fix="source or package")
    for name in call.packages:
        if not PACKAGE.fullmatch(name):
            raise BadDefinition(f"-p {name!r} is no name of a package", fix="names with a comma between: -p vim,tmux")


def _disk(call: Call, env: Mapping[str, str]) -> Disk:
    size = call.image_size_gib or env.get("DIB_IMAGE_SIZE", "")
    extra = call.extra_size_gib or env.get("DIB_IMAGE_EXTRA_SIZE", "")
    filesystem = env.get("FS_TYPE", "ext4")
    default = "img-rootfs" if filesystem == "xfs" else "cloudimg-rootfs"  # as disk-image-create; xfs holds 12 bytes
    label = call.root_label or env.get("ROOT_LABEL", "") or default
    if filesystem not in FILESYSTEMS:
        raise BadDefinition(
            f"FS_TYPE {filesystem!r} is not made here", fix=f"{', '.join(FILESYSTEMS)}, or --engine dib"
        )
    disk = Disk(
        size_bytes=_gib(size) if size else 0,
        extra_bytes=_gib(extra, "--image-extra-size") if extra else Disk().extra_bytes,
        root_label=label,
        filesystem=filesystem,
        compression="none" if call.uncompressed else "zstd",
        layout="elements",
        mkfs=_mkfs(call, env),
    )
    return replace(disk, **_qemu_img(call.qemu_img_options))


def _mkfs(call: Call, env: Mapping[str, str]) -> str:
    """Options of the root's mkfs, in the order disk-image-create puts them: the last of two wins."""
    journal, resize = call.journal_mib or env.get("DIB_JOURNAL_SIZE", ""), call.max_online_resize
    words = [f"-E resize={resize}" if resize else "", f"-J size={journal}" if journal else "", call.mkfs_options]
    return " ".join(filter(None, words))


def _gib(text: str, option: str = "--image-size") -> int:
    try:
        size = int(float(text) * (1 << 30))
    except (ValueError, OverflowError) as exc:
        raise BadDefinition(f"{option} {text!r} is not a number of GB") from exc
    if not 0 < size <= LARGEST_BYTES:
        raise BadDefinition(f"{option} {text!r} is not a size", fix=f"up to {LARGEST_BYTES >> 30} GB")
    return size


def _qemu_img(text: str) -> dict[str, Any]:
    """What qemu-img's options say that applies to our writer."""
    changes: dict[str, Any] = {}
    for word in filter(None, text.split(",")):
        name, _, value = word.partition("=")
        if name == "cluster_size":
            changes["cluster_bytes"] = cluster_bytes(value, "--qemu-img-options")
        elif name == "compression_type" and value in ("zstd", "zlib"):
            changes["compression"] = value
        elif name != "compat":
            raise BadDefinition(f"--qemu-img-options: {word!r} is not known here", fix="or add --engine dib")
    return changes


def _formats(types: Sequence[str]) -> tuple[str, ...]:
    for kind in types:
        if kind in DIB_FORMATS:
            raise BadDefinition(f"format {kind} is written by diskimage-builder only", fix="add --engine dib")
        if kind not in FORMATS:
            raise BadDefinition(f"unknown format {kind!r}", fix=f"one of {', '.join(FORMATS)}")
    return tuple(types)
