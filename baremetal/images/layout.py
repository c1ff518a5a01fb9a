"""Which partitions a disk gets: our hybrid default, or what an element's block-device YAML asks for.

The YAML is diskimage-builder's, expanded by its own config_tree_to_graph; gpt,
mbr, mkfs, mount and fstab are understood. Sizes are bytes, places are sectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from baremetal.images import layoutcheck, mkfsopts
from baremetal.images.definition import FILESYSTEMS, Disk
from baremetal.images.elements import Element
from baremetal.images.environment import uuid_for
from baremetal.images.errors import BadDefinition, DiskTooSmall

SECTOR = 512
MIB = 1 << 20
ALIGN = MIB // SECTOR
BIOS_BOOT, ESP, LINUX, LINUX_ROOT, SWAP = "ef02", "ef00", "8300", "8304", "8200"  # gdisk's codes
SUPPORTED = ("local_loop", "partitioning", "mkfs", "mount", "fstab")


@dataclass(frozen=True)
class Part:
    """One partition. `size` 0: the rest of the disk. `start` and `sectors` are known once placed."""

    name: str
    type: str
    size: int = 0
    filesystem: str = ""
    label: str = ""
    mount: str = ""
    options: str = "defaults"
    passno: int = 0
    boot: bool = False
    uuid: str = ""
    fs_uuid: str = ""
    mkfs: str = ""  # options of mkfs, checked
    start: int = 0
    sectors: int = 0


@dataclass(frozen=True)
class Layout:
    """A partition table and what is on its partitions; `label` is gpt or mbr."""

    label: str
    parts: tuple[Part, ...]

    def part(self, mount: str) -> Part | None:
        return next((part for part in self.parts if part.mount == mount), None)

    def of_type(self, kind: str) -> Part | None:
        return next((part for part in self.parts if part.type.lower() == kind), None)

    @property
    def root(self) -> Part:
        root = self.part("/")
        assert root is not None
        return root

    @property
    def mounts(self) -> list[str]:
        return [part.mount for part in self.parts if part.mount]

    def fstab(self) -> str:
        """Lines for /etc/fstab, parents first; the growing part of the disk grows its file system at boot."""
        lines = []
        for part in sorted((p for p in self.parts if p.mount), key=lambda p: p.mount):
            grow = ",x-systemd.growfs" if part is self.parts[-1] and part.filesystem in FILESYSTEMS else ""
            where = f"UUID={part.fs_uuid}"
            lines.append(f"{where} {part.mount} {part.filesystem} {part.options}{grow} 0 {part.passno}\n")
        return "".join(lines)

    def placed(self, disk_bytes: int, name: str) -> Layout:
        """With start and length of every partition on a disk of this size."""
        at = ALIGN
        last = disk_bytes // SECTOR - (34 if self.label == "gpt" else 1)
        placed = []
        for part in self.parts:
            sectors = part.size // SECTOR if part.size else last - at + 1
            if sectors <= 0 or at + sectors - 1 > last:
                raise DiskTooSmall(f"{name}: partition {part.name} does not fit a disk of {disk_bytes // MIB} MiB")
            placed.append(replace(part, start=at, sectors=sectors))
            at = -(-(at + sectors) // ALIGN) * ALIGN
        return replace(self, parts=tuple(placed))

    def fixed_bytes(self) -> int:
        """What the partitions with a size take, with the table."""
        return 2 * MIB + sum(-(-part.size // MIB) * MIB for part in self.parts)


def hybrid(name: str, root_label: str, filesystem: str = "ext4", mkfs: str = "") -> Layout:
    """BIOS boot, ESP, root: one image for both firmwares; the root is last, so that it can grow."""
    mkfs = mkfsopts.check(filesystem, mkfs, name)
    root = Part("root", LINUX_ROOT, 0, filesystem, root_label, "/", "defaults", 1, mkfs=mkfs)
    layout = Layout("gpt", (Part("bios", BIOS_BOOT, MIB), Part("esp", ESP, 32 * MIB), root))
    layoutcheck.check(layout.label, layout.parts, name)
    return _identified(name, layout)


def choose(name: str, disk: Disk, elements: Sequence[Element], env: Mapping[str, str], arch: str = "amd64") -> Layout:
    """The layout of a definition: `hybrid`, or from DIB_BLOCK_DEVICE_CONFIG or the elements' YAML."""
    text, where = _yaml_text(elements, env, arch) if disk.layout == "elements" else ("", "")
    if not text:
        return hybrid(name, disk.root_label, disk.filesystem, disk.mkfs)
    return from_yaml(text, name, disk.root_label, where, disk.filesystem, disk.mkfs)


def _yaml_text(elements: Sequence[Element], env: Mapping[str, str], arch: str) -> tuple[str, str]:
    given = env.get("DIB_BLOCK_DEVICE_CONFIG", "")
    if given.startswith("file://"):
        try:
            return Path(given.removeprefix("file://")).read_text(), given
        except (OSError, UnicodeDecodeError) as exc:
            raise BadDefinition(f"DIB_BLOCK_DEVICE_CONFIG: {given} cannot be read", detail=str(exc)) from exc
    if given:
        return given, "DIB_BLOCK_DEVICE_CONFIG"
    for element in elements:
        for file in (f"block-device-{arch}.yaml", "block-device-default.yaml"):
            if (element.path / file).exists():
                return (element.path / file).read_text(), f"{element.name}/{file}"
    return "", ""


def from_yaml(
    text: str, name: str, root_label: str, where: str, filesystem: str = "ext4", root_mkfs: str = ""
) -> Layout:
    """A layout from diskimage-builder's block-device YAML; `root_mkfs`: the root's mkfs options when it names none."""
    graph = _graph(text, where)
    tables = [entry["partitioning"] for entry in graph if "partitioning" in entry]
    if len(tables) != 1:
        raise BadDefinition(f"{where}: one partition table is needed, {len(tables)} are there", fix="--engine dib")
    made = {entry["mkfs"]["base"]: entry["mkfs"] for entry in graph if "mkfs" in entry}
    mounted = {entry["mount"]["base"]: entry["mount"] for entry in graph if "mount" in entry}
    tabled = {entry["fstab"]["base"]: entry["fstab"] for entry in graph if "fstab" in entry}
    table = str(tables[0].get("label"))
    defaults = _Defaults(table, root_label, filesystem, root_mkfs)
    parts = []
    for config in tables[0]["partitions"]:
        mkfs = made.get(config["name"], {})
        mount = mounted.get(mkfs.get("name", ""), {})
        fstab = tabled.get(mount.get("name", ""), {})
        parts.append(_part(config, mkfs, mount, fstab, defaults, f"{where}: {config['name']}"))
    layout = Layout(table, tuple(parts))
    layoutcheck.check(layout.label, layout.parts, where)
    return _identified(name, layout)


def _graph(text: str, where: str) -> list[dict[str, Any]]:
    from diskimage_builder.block_device.config import config_tree_to_graph
    from diskimage_builder.block_device.exception import BlockDeviceSetupException

    try:
        graph: list[dict[str, Any]] = config_tree_to_graph(yaml.safe_load(text))
    except (BlockDeviceSetupException, yaml.YAMLError, AssertionError, KeyError, TypeError, AttributeError) as exc:
        raise BadDefinition(f"{where}: not a block-device configuration", detail=str(exc)) from exc
    for entry in graph:
        kind = next(iter(entry))
        if kind not in SUPPORTED:
            raise BadDefinition(f"{where}: {kind} is not assembled here", fix="--engine dib does it")
        if kind == "local_loop" and entry[kind].get("block_size", 512) != 512:
            raise BadDefinition(f"{where}: only sectors of 512 bytes", fix="--engine dib does it")
    return graph


@dataclass(frozen=True)
class _Defaults:
    """What partitions take that the YAML says nothing of."""

    table: str
    root_label: str
    filesystem: str
    root_mkfs: str


def _part(
    config: Mapping[str, Any],
    mkfs: Mapping[str, Any],
    mount: Mapping[str, Any],
    fstab: Mapping[str, Any],
    defaults: _Defaults,
    where: str,
) -> Part:
    size = str(config.get("size", ""))
    if size.endswith("%") and size != "100%":
        raise BadDefinition(f"{where}: only sizes or 100%", fix="--engine dib")
    filesystem = str(mkfs.get("type", defaults.filesystem)) if mkfs else ""
    if filesystem not in ("", "vfat", "swap", *FILESYSTEMS):
        raise BadDefinition(f"{where}: {filesystem} is not made here", fix="ext4, xfs, vfat, swap, or --engine dib")
    at = str(mount.get("mount_point", ""))
    label = defaults.root_label if at == "/" else str(mkfs.get("name", ""))
    # As the original: options of mkfs are not for swap, which is mounted nowhere and never checked.
    swap = filesystem == "swap"
    options = "" if swap else str(mkfs.get("opts") or (defaults.root_mkfs if at == "/" else ""))
    passno = fstab.get("fsck-passno", 2)
    return Part(
        name=str(config["name"]),
        type=_type(str(config.get("type", _usual_type(at, filesystem))), defaults.table),
        size=0 if size == "100%" else _size(size, where),
        filesystem=filesystem,
        label=str(mkfs.get("label", label)),
        mount="none" if swap and at else at,
        options="sw" if swap else str(fstab.get("options", "defaults")),
        passno=0 if swap else 1 if str(passno) == "1" else 2 if passno else 0,
        boot="boot" in config.get("flags", ()),
        fs_uuid=str(mkfs.get("uuid", "")),
        mkfs=mkfsopts.check(filesystem, options, where) if filesystem else "",
    )


def _usual_type(mount: str, filesystem: str) -> str:
    return SWAP if filesystem == "swap" else LINUX_ROOT if mount == "/" else LINUX


def _type(text: str, table: str) -> str:
    """A partition's type as gdisk writes it: 4 digits, of which an MBR holds the first two (EF, 83)."""
    code = text.lower().removeprefix("0x")
    return f"{code.zfill(2)}00" if table == "mbr" and len(code) <= 2 else code


def _size(text: str, where: str) -> int:
    """Bytes of diskimage-builder's size, in whole MiB."""
    from diskimage_builder.block_device.utils import parse_abs_size_spec

    try:
        size = int(parse_abs_size_spec(text)) // MIB * MIB
    except (RuntimeError, ValueError, AttributeError) as exc:
        raise BadDefinition(f"{where}: size {text!r} is none", fix="like 512MiB or 2GiB") from exc
    if size <= 0:
        raise BadDefinition(f"{where}: size {text!r} is less than 1 MiB", fix="like 512MiB or 2GiB")
    return size


def _identified(name: str, layout: Layout) -> Layout:
    """With UUIDs derived from the image's name; a FAT's is the 8 digits of its serial number."""
    parts = []
    for part in layout.parts:
        fs_uuid = uuid_for(name, "root" if part.mount == "/" else f"fs-{part.mount or part.name}")
        if part.filesystem == "vfat" or part.type == ESP:
            digits = uuid_for(name, "esp").replace("-", "")[:8].upper()
            fs_uuid = f"{digits[:4]}-{digits[4:]}"
        elif part.fs_uuid:
            fs_uuid = part.fs_uuid
        parts.append(replace(part, uuid=uuid_for(name, f"part-{part.name}"), fs_uuid=fs_uuid))
    return replace(layout, parts=tuple(parts))
