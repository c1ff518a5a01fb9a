"""What a disk layout must hold to before hours of a build end in a disk that does not boot.

The rules of file-system labels are diskimage-builder's (block_device/level2/mkfs.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from baremetal.images.errors import BadDefinition

if TYPE_CHECKING:
    from baremetal.images.layout import Part

LONGEST_LABEL = {"ext4": 16, "xfs": 12, "vfat": 11, "swap": 16}  # bytes
TABLES = ("gpt", "mbr")
MBR_PARTITIONS = 4  # primary ones; no extended partition is made here
ESP = "ef00"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TYPE = re.compile("[0-9a-f]{4}")
_ORIGINAL = "--engine dib does it"


def check(table: str, parts: Sequence[Part], where: str) -> None:
    """BadDefinition for a partition table or file systems that cannot be, or that only the original makes."""
    if table not in TABLES:
        raise BadDefinition(f"{where}: label {table!r} is no partition table", fix="gpt or mbr")
    if table == "mbr" and len(parts) > MBR_PARTITIONS:
        raise BadDefinition(f"{where}: an mbr holds {MBR_PARTITIONS} partitions here, not {len(parts)}", fix="use gpt")
    _once([part.name for part in parts], "partitions named", where)
    _once([part.mount for part in parts if part.mount], "file systems mounted at", where)
    if not any(part.mount == "/" for part in parts):
        raise BadDefinition(f"{where}: nothing is mounted at /")
    if sum(part.size == 0 for part in parts) > 1 or any(part.size == 0 for part in parts[:-1]):
        raise BadDefinition(f"{where}: only the last partition may take the rest of the disk", fix="--engine dib")
    for part in parts:
        _partition(part, f"{where}: {part.name}")


def _once(names: Sequence[str], what: str, where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadDefinition(f"{where}: two {what} {twice[0]}", fix="give each its own")


def _partition(part: Part, where: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,35}", part.name):
        raise BadDefinition(f"{where!r} is no name of a partition", fix="up to 36 letters, digits, dot, dash")
    if not _TYPE.fullmatch(part.type):
        raise BadDefinition(
            f"{where}: type {part.type!r} is none", fix="like 8300 or EF00 (gdisk's codes), or 83 on an mbr"
        )
    if part.filesystem == "swap":
        _file_system(part, where)
        return
    if part.mount and not (part.mount.startswith("/") and str(PurePosixPath(part.mount)) == part.mount):
        raise BadDefinition(f"{where}: cannot be mounted at {part.mount!r}", fix="an absolute path, like /boot")
    if ".." in PurePosixPath(part.mount).parts or re.search(r"\s", f"{part.mount}{part.options}"):
        raise BadDefinition(f"{where}: {part.mount} {part.options!r}: not for a line of fstab", fix="no spaces, no ..")
    if part.filesystem:
        _file_system(part, where)


def _file_system(part: Part, where: str) -> None:
    if part.filesystem == "vfat" and (part.type != ESP or part.mount == "/"):
        raise BadDefinition(f"{where}: vfat is made on the EFI partition (type EF00; EF on an mbr) only", fix=_ORIGINAL)
    longest = LONGEST_LABEL[part.filesystem]
    if len(part.label.encode()) > longest or not part.label.isprintable():
        raise BadDefinition(
            f"{where}: label {part.label!r} does not fit {part.filesystem}", fix=f"up to {longest} bytes"
        )
    if part.fs_uuid and part.filesystem != "vfat" and not _UUID.fullmatch(part.fs_uuid):
        raise BadDefinition(f"{where}: {part.fs_uuid!r} is no UUID", fix="leave it out: one is derived from the name")
