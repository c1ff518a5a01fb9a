"""GRUB into a disk image without grub-install: no device, no mount, the same bytes each time.

Offsets are GRUB's own: grub-core/boot/i386/pc/{boot,diskboot}.S. They were
checked by booting the disks this makes on SeaBIOS and OVMF.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from baremetal.images.errors import ToolMissing

SECTOR = 512
GRUB_LIB = Path("/usr/lib/grub")
COMMON = [
    "part_gpt",
    "part_msdos",
    "ext2",
    "xfs",
    "fat",
    "normal",
    "linux",
    "configfile",
    "echo",
    "test",
    "search",
    "search_fs_uuid",
    "search_label",
    "serial",
    "terminal",
    "all_video",
    "minicmd",
    "sleep",
    "reboot",
    "halt",
    "cat",
    "ls",
    "loadenv",
]
BIOS_ONLY = ("biosdisk",)
EFI_ONLY = ("efi_gop", "efi_uga")

_KERNEL_SECTOR = 0x5C  # boot.img: LBA of core.img, 8 bytes
_BOOT_DRIVE = 0x64  # boot.img: drive to load from; 0xff is the one we booted from
_DRIVE_CHECK = 0x66  # boot.img: a jump GRUB patches to two NOPs on sane BIOSes
_BOOT_CODE = 440  # bytes of the MBR before the disk signature
_BLOCK_LIST = 500  # core.img: LBA, sector count, segment of the rest of core.img
_SEGMENT = 0x820


def early_config(root_uuid: str, prefix: str = "/boot/grub") -> str:
    """What core.img does first: find the root filesystem by UUID, go on with its grub.cfg."""
    return (
        f"search --no-floppy --fs-uuid --set=root {root_uuid}\n"
        f"set prefix=($root){prefix}\n"
        "configfile $prefix/grub.cfg\n"
    )


def core_image(platform: str, early: str, scratch: Path) -> bytes:
    """GRUB for `i386-pc` (core.img) or `x86_64-efi` (an EFI program)."""
    modules = GRUB_LIB / platform
    if not modules.is_dir():
        package = "grub-pc-bin" if platform == "i386-pc" else "grub-efi-amd64-bin"
        raise ToolMissing(f"GRUB's {platform} modules are not on this machine", fix=f"apt install {package}")
    config, out = scratch / f"early-{platform}.cfg", scratch / f"core-{platform}"
    config.write_text(early)
    extra = BIOS_ONLY if platform == "i386-pc" else EFI_ONLY
    command = ["grub-mkimage", "-O", platform, "-d", str(modules), "-p", "/boot/grub", "-c", str(config)]
    try:
        subprocess.run([*command, "-o", str(out), *COMMON, *extra], check=True, capture_output=True)
    except FileNotFoundError as exc:
        raise ToolMissing("grub-mkimage not found", fix="apt install grub-common grub-pc-bin") from exc
    except subprocess.CalledProcessError as exc:
        raise ToolMissing("grub-mkimage failed", detail=exc.stderr.decode(errors="replace")) from exc
    return out.read_bytes()


def boot_sector(boot_img: bytes, core_lba: int) -> bytes:
    """The first 440 bytes of the disk: GRUB's boot.img pointed at core.img."""
    patched = bytearray(boot_img)
    struct.pack_into("<Q", patched, _KERNEL_SECTOR, core_lba)
    patched[_BOOT_DRIVE] = 0xFF
    patched[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    return bytes(patched[:_BOOT_CODE])


def placed_core(core: bytes, core_lba: int) -> bytes:
    """core.img with the list of its own blocks filled in for contiguous sectors at `core_lba`."""
    padded = bytearray(core + bytes(-len(core) % SECTOR))
    rest = len(padded) // SECTOR - 1
    struct.pack_into("<QHH", padded, _BLOCK_LIST, core_lba + 1, rest, _SEGMENT)
    return bytes(padded)


def embed_bios(disk: Path, core: bytes, core_lba: int, room_bytes: int) -> None:
    """Write boot.img and core.img into a disk image with a BIOS boot partition at `core_lba`."""
    boot = (GRUB_LIB / "i386-pc/boot.img").read_bytes()
    body = placed_core(core, core_lba)
    if len(body) > room_bytes:
        raise ToolMissing(f"core.img is {len(body)} bytes, the BIOS boot partition only {room_bytes}")
    with open(disk, "r+b") as file:
        file.write(boot_sector(boot, core_lba))
        file.seek(core_lba * SECTOR)
        file.write(body)
