"""A tree becomes a bootable disk image. No mount, no loop device, no root needed.

The same tree and layout give the same bytes: every tool gets its identifiers
and its clock from us.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baremetal.images import bases, ext4, grub, mkfsopts, xfs
from baremetal.images.errors import BuildFailed, DiskTooSmall
from baremetal.images.layout import BIOS_BOOT, ESP, MIB, SECTOR, Layout, Part
from baremetal.images.nodes import Node, inside, needed_bytes
from baremetal.images.tools import tool, versions

JOURNAL_MIB = 16
_MBR_ENTRY = struct.Struct("<B3sB3sII")
_NO_CHS = b"\xfe\xff\xff"


@dataclass(frozen=True)
class Identity:
    """The disk's own identifiers; epoch (s) is the date of everything we write."""

    disk: str
    epoch: int

    @property
    def signature(self) -> int:
        """The disk signature in the MBR, by which BIOS tools tell disks apart."""
        return int(self.disk.replace("-", "")[:8], 16)


def disk_bytes(found: Sequence[Node], layout: Layout, size_bytes: int, extra_bytes: int, name: str) -> int:
    """The disk's size: as asked, or what the tree needs plus 5 % and `extra_bytes`, in whole 4 MiB."""
    growing = next((part for part in layout.parts if part.size == 0), None)
    need = layout.fixed_bytes()
    if growing is not None and growing.mount:
        need += _needed(found, layout, growing)
    if size_bytes:
        if size_bytes < need:
            raise DiskTooSmall(
                f"{name}: the tree needs {need // MIB} MiB, the disk is {size_bytes // MIB} MiB",
                fix=f'disk.size = "{-(-need // MIB)}MiB" or more (--image-size takes GB), or "auto"',
            )
        return size_bytes // MIB * MIB
    return -(-(need + extra_bytes) // (4 * MIB)) * 4 * MIB


def _needed(found: Sequence[Node], layout: Layout, part: Part) -> int:
    files = needed_bytes(inside(found, part.mount, _below(layout, part)))
    if part.filesystem == "xfs":
        return max(xfs.MIN_BYTES, int(files * 1.08) + xfs.LOG_BYTES)
    wanted = mkfsopts.ext4(part.mkfs, JOURNAL_MIB)
    usual = mkfsopts.INODE_BYTES / mkfsopts.BYTES_AN_INODE  # of which the 5 % know
    need = int(files * (1.05 + max(0.0, wanted.inode_share - usual) * 1.1)) + wanted.journal_mib * MIB
    return max(need, int(wanted.journal_mib * 2.2) * MIB)  # mke2fs gives a journal half of the room at most


def _inside(tree: Path, mount: str) -> Path:
    """The directory of the tree that goes on a partition; a link that leads elsewhere would be followed outside."""
    path = tree / mount.lstrip("/")
    if path.exists() and path.resolve() != (tree.resolve() / mount.lstrip("/")):
        raise BuildFailed(f"disk: {mount} of the tree is a link to {path.resolve()}", fix="make it a directory")
    return path


def _below(layout: Layout, part: Part) -> list[str]:
    """Mount points of other partitions inside this one's tree."""
    prefix = part.mount.rstrip("/") + "/"
    return [mount for mount in layout.mounts if mount.startswith(prefix) and mount != part.mount]


def partition(disk: Path, layout: Layout, ids: Identity) -> None:
    """Write the partition table."""
    if layout.label == "gpt":
        # No -q: with it sgdisk does nothing and exits 0.
        command = ["sgdisk", "-a", "1", "-U", ids.disk]
        for number, part in enumerate(layout.parts, 1):
            span = f"{number}:{part.start}:{part.start + part.sectors - 1}"
            command += ["-n", span, "-t", f"{number}:{part.type}", "-u", f"{number}:{part.uuid}"]
            command += ["-c", f"{number}:{part.name}"]
        tool([*command, str(disk)], package="gdisk")
    with open(disk, "r+b") as file:
        file.seek(440)
        file.write(struct.pack("<I", ids.signature))
        if layout.label == "mbr":
            file.seek(446)
            file.write(mbr_table(layout))


def mbr_table(layout: Layout) -> bytes:
    """Four primary entries and the boot signature."""
    if len(layout.parts) > 4:
        raise BuildFailed("disk: an MBR holds four partitions here", fix="use gpt")
    entries = b"".join(
        _MBR_ENTRY.pack(0x80 if part.boot else 0, _NO_CHS, _mbr_type(part), _NO_CHS, part.start, part.sectors)
        for part in layout.parts
    )
    return entries.ljust(64, b"\0") + b"\x55\xaa"


def _mbr_type(part: Part) -> int:
    return int(part.type[:2], 16)


def make_esp(disk: Path, part: Part, files: Path, program: Path, ids: Identity) -> None:
    """A FAT file system with GRUB's EFI program in it, and what the tree has at its mount point."""
    env = {"MTOOLS_SKIP_CHECK": "1", "SOURCE_DATE_EPOCH": str(ids.epoch), "TZ": "UTC"}
    image = f"{disk}@@{part.start * SECTOR}"
    serial = part.fs_uuid.replace("-", "")
    geometry = ["-T", str(part.sectors), "-h", "64", "-s", "32"]
    tool(["mformat", "-i", image, "-N", serial, "-v", "ESP", *geometry, "::"], package="mtools", env=env)
    os.utime(program, (ids.epoch, ids.epoch))
    tool(["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"], package="mtools", env=env)
    tool(["mcopy", "-m", "-i", image, str(program), "::/EFI/BOOT/BOOTX64.EFI"], package="mtools", env=env)
    for extra in sorted(files.iterdir()) if part.mount and files.is_dir() else ():
        tool(["mcopy", "-s", "-m", "-n", "-D", "s", "-i", image, str(extra), "::/"], package="mtools", env=env)


def make_swap(disk: Path, part: Part, scratch: Path) -> None:
    """A swap area: mkswap on a sparse file, and what it wrote into the disk."""
    area = scratch / "swap.img"
    with open(area, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(part.sectors * SECTOR // 4096 * 4096)
    command = ["mkswap", "-q", "-p", "4096", "-U", part.fs_uuid, "-L", part.label, str(area)]
    tool(command, package="util-linux")
    bases.place(area, disk, part.start * SECTOR)
    area.unlink()


def embed_grub(disk: Path, tree: Path, layout: Layout, ids: Identity, scratch: Path) -> None:
    """GRUB for BIOS, in its own partition or behind the MBR, and for UEFI on the ESP."""
    boot = layout.part("/boot")
    early = grub.early_config(boot.fs_uuid, "/grub") if boot else grub.early_config(layout.root.fs_uuid)
    bios = layout.of_type(BIOS_BOOT)
    if bios:
        grub.embed_bios(disk, grub.core_image("i386-pc", early, scratch), bios.start, bios.sectors * SECTOR)
    elif layout.label == "mbr":
        room = (layout.parts[0].start - 1) * SECTOR
        grub.embed_bios(disk, grub.core_image("i386-pc", early, scratch), 1, room)
    esp = layout.of_type(ESP)
    if esp:
        program = scratch / "BOOTX64.EFI"
        program.write_bytes(grub.core_image("x86_64-efi", early, scratch))
        make_esp(disk, esp, _inside(tree, esp.mount), program, ids)


@dataclass(frozen=True)
class Work:
    """One disk to make: the tree, its entries, how many of its lowest layers are steady, where bases are kept."""

    name: str
    tree: Path
    found: Sequence[Node]
    steady: int
    scratch: Path
    bases: Path


def assemble(work: Work, disk: Path, layout: Layout, ids: Identity, size: int) -> bases.Base:
    """The whole disk image from a finished tree; the base it went through."""
    fillings = [_filling(work, layout, part, ids) for part in layout.parts if part.filesystem == "ext4"]
    facts = [repr(layout), repr(ids), str(size), versions(), *(filling.digest() for filling in fillings)]
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:24]

    def make(path: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(size)
        partition(path, layout, ids)
        for part in layout.parts:
            if part.filesystem == "swap":
                make_swap(path, part, work.scratch)
        for filling in fillings:
            ext4.make(path, filling.fs)
            ext4.fill(path, filling, filling.base, work.scratch)

    base = bases.obtain(work.bases, key, work.name, make)
    bases.copy_sparse(base.disk, disk)
    embed_grub(disk, work.tree, layout, ids, work.scratch)
    for filling in fillings:
        ext4.fill(disk, filling, filling.rest, work.scratch)
    for part in layout.parts:
        if part.filesystem == "xfs":
            _xfs(work, disk, layout, part, ids)
    return base


def _xfs(work: Work, disk: Path, layout: Layout, part: Part, ids: Identity) -> None:
    size = part.sectors * SECTOR // 4096 * 4096
    fs = xfs.Filesystem(part.fs_uuid, part.label, ids.epoch, part.start * SECTOR, size, part.mkfs)
    mine = inside(work.found, part.mount, _below(layout, part))
    xfs.make(disk, fs, _inside(work.tree, part.mount), mine, work.scratch)


def _filling(work: Work, layout: Layout, part: Part, ids: Identity) -> ext4.Filling:
    fs = ext4.Filesystem(
        uuid=part.fs_uuid,
        label=part.label,
        epoch=ids.epoch,
        offset=part.start * SECTOR,
        size=part.sectors * SECTOR // 4096 * 4096,
        options=mkfsopts.ext4(part.mkfs, JOURNAL_MIB if part.mount == "/" else 4),
    )
    mine = inside(work.found, part.mount, _below(layout, part))
    return ext4.filling(fs, _inside(work.tree, part.mount), mine, work.steady)
