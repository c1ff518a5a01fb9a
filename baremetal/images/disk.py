"""A tree becomes a bootable disk image: GPT, BIOS boot, ESP, root. No mount, no loop device, no root needed.

The same tree and UUIDs give the same bytes: every tool gets its identifiers
and its clock from us.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from baremetal.images import ext4, grub
from baremetal.images.errors import BuildFailed, DiskTooSmall, ToolMissing

SECTOR = 512
MIB = 1 << 20
BIOS_LBA = 2048
ESP_LBA = 4096
ESP_BYTES = 32 * MIB
ROOT_LBA = ESP_LBA + ESP_BYTES // SECTOR
GPT_TAIL = 33  # sectors of the backup table at the disk's end


@dataclass(frozen=True)
class Identity:
    """Every identifier on the disk; epoch (s) is the date of everything we write."""

    disk: str
    bios: str
    esp: str
    root: str
    root_part: str
    epoch: int
    root_label: str = "root"

    @property
    def fat_serial(self) -> str:
        return self.esp.replace("-", "")[:8]


def tool(command: Sequence[str], *, package: str, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Run a program of this machine; its output, or an error that names the package it is in."""
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, env={**path, **(env or {})}, input=stdin.encode(), capture_output=True, check=False
        )
    except FileNotFoundError as exc:
        raise ToolMissing(f"{command[0]} not found", fix=f"apt install {package}") from exc
    text = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        raise BuildFailed(f"disk: {command[0]} failed (exit {done.returncode})", detail=text.strip()[-2000:])
    return text


def tree_bytes(tree: Path, block: int = 4096) -> tuple[int, int]:
    """(bytes the files need in blocks, number of inodes)."""
    total = inodes = 0
    seen: set[tuple[int, int]] = set()
    for here, dirs, names in os.walk(tree):
        inodes += 1 + len(names)
        total += block
        for name in names + [d for d in dirs if os.path.islink(os.path.join(here, d))]:
            st = os.lstat(os.path.join(here, name))
            if st.st_nlink > 1:
                if (st.st_dev, st.st_ino) in seen:
                    continue
                seen.add((st.st_dev, st.st_ino))
            total += -(-st.st_size // block) * block
    return total, inodes


def disk_bytes(tree: Path, size_bytes: int, extra_bytes: int, name: str) -> int:
    """The disk's size: as asked, or what the tree needs plus 5 % and `extra_bytes`, in whole MiB."""
    files, inodes = tree_bytes(tree)
    need = ROOT_LBA * SECTOR + GPT_TAIL * SECTOR + int((files + inodes * 512) * 1.05) + 16 * MIB
    if size_bytes:
        if size_bytes < need:
            raise DiskTooSmall(
                f"{name}: the tree needs {need // MIB} MiB, the disk is {size_bytes // MIB} MiB",
                fix=f'set disk.size = "{-(-need // MIB)}MiB" or more, or "auto"',
            )
        return size_bytes // MIB * MIB
    return -(-(need + extra_bytes) // (4 * MIB)) * 4 * MIB


def partition(disk: Path, ids: Identity) -> None:
    """GPT: BIOS boot 1 MiB, ESP 32 MiB, root to the end (growable, discoverable type)."""
    # No -q: with it sgdisk does nothing and exits 0.
    command = ["sgdisk", "-a", "1", "-U", ids.disk]
    parts = (
        (f"1:{BIOS_LBA}:{ESP_LBA - 1}", "ef02", ids.bios, "bios"),
        (f"2:{ESP_LBA}:{ROOT_LBA - 1}", "ef00", ids.esp, "esp"),
        (f"3:{ROOT_LBA}:0", "8304", ids.root_part, ids.root_label),
    )
    for span, kind, guid, label in parts:
        number = span[0]
        command += ["-n", span, "-t", f"{number}:{kind}", "-u", f"{number}:{guid}", "-c", f"{number}:{label}"]
    tool([*command, str(disk)], package="gdisk")


def make_esp(disk: Path, program: Path, ids: Identity) -> None:
    """A FAT32 file system with GRUB's EFI program in it, written by mtools."""
    env = {"MTOOLS_SKIP_CHECK": "1", "SOURCE_DATE_EPOCH": str(ids.epoch), "TZ": "UTC"}
    image = f"{disk}@@{ESP_LBA * SECTOR}"
    geometry = ["-T", str(ESP_BYTES // SECTOR), "-h", "64", "-s", "32"]
    tool(["mformat", "-i", image, "-N", ids.fat_serial, "-v", "ESP", *geometry, "::"], package="mtools", env=env)
    os.utime(program, (ids.epoch, ids.epoch))
    tool(["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"], package="mtools", env=env)
    tool(["mcopy", "-m", "-i", image, str(program), "::/EFI/BOOT/BOOTX64.EFI"], package="mtools", env=env)


def protect_signature(disk: Path, ids: Identity) -> None:
    """A disk signature in the protective MBR, so BIOS tools can tell disks apart."""
    with open(disk, "r+b") as file:
        file.seek(440)
        file.write(struct.pack("<I", int(ids.fat_serial, 16)))


def assemble(
    tree: Path,
    disk: Path,
    ids: Identity,
    *,
    size: int,
    scratch: Path,
    layers: Sequence[Path] = (),
    bootable: bool = True,
) -> None:
    """The whole disk image from a finished tree; `layers` (topmost first) say in which order its files are laid out."""
    with open(disk, "wb") as file:
        file.truncate(size)
    partition(disk, ids)
    if bootable:
        early = grub.early_config(ids.root)
        grub.embed_bios(disk, grub.core_image("i386-pc", early, scratch), BIOS_LBA, (ESP_LBA - BIOS_LBA) * SECTOR)
        program = scratch / "BOOTX64.EFI"
        program.write_bytes(grub.core_image("x86_64-efi", early, scratch))
        make_esp(disk, program, ids)
    protect_signature(disk, ids)
    end = size // SECTOR - GPT_TAIL - 1
    root_size = (end - ROOT_LBA) * SECTOR // 4096 * 4096
    fs = ext4.Filesystem(ids.root, ids.root_label, ids.epoch, ROOT_LBA * SECTOR, root_size)
    ext4.make(disk, tree, fs, layers=layers, scratch=scratch)
