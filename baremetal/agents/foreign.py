"""What lies on a disk before we erase it: tables, file systems, arrays, by their signatures. Reads only.

Offsets and magic numbers as libblkid's superblock probes have them.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple

from baremetal.agents.blockdev import MIB, Target
from baremetal.agents.trouble import NodeTrouble

MAX_FOUND = 20


class Mark(NamedTuple):
    """`magic` at byte `at` from the start (or, negative, from the end) of a volume."""

    name: str
    at: int
    magic: bytes


MARKS = [
    Mark("LVM", 512, b"LABELONE"),
    Mark("LVM", 0, b"LABELONE"),
    Mark("LUKS", 0, b"LUKS\xba\xbe"),
    Mark("ext", 1080, b"\x53\xef"),
    Mark("xfs", 0, b"XFSB"),
    Mark("btrfs", 65600, b"_BHRfS_M"),
    Mark("swap", 4086, b"SWAPSPACE2"),
    Mark("ntfs", 3, b"NTFS    "),
    Mark("vfat", 82, b"FAT32   "),
    Mark("vfat", 54, b"FAT1"),
    Mark("md array", 0, b"\xfc\x4e\x2b\xa9"),
    Mark("md array", 4096, b"\xfc\x4e\x2b\xa9"),
    Mark("bcache", 4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    Mark("VMFS", 1048576, b"\x0d\xd0\x01\xc0"),
    Mark("iso9660", 32769, b"CD001"),
    Mark("ZFS", 128 * 1024, b"\x0c\xb1\xba\x00\x00\x00\x00\x00"),
    Mark("ZFS", 128 * 1024, b"\x00\x00\x00\x00\x00\xba\xb1\x0c"),
]
HEAD = 2 * MIB


def content(path: str) -> List[str]:
    """Signatures found on the disk, [] when it looks blank; what cannot be read is said as such."""
    try:
        with Target(path, write=False) as target:
            return _of_target(target)[:MAX_FOUND]
    except NodeTrouble as exc:
        return [f"unreadable: {exc.brief}"]


def _of_target(target: Target) -> List[str]:
    head = target.read(0, min(HEAD, target.size))
    tail = target.read(max(0, target.size - MIB), min(MIB, target.size))
    found = _marks(head) + _md_at_end(target.size, tail)
    found += _partitions(target)
    if not found and head[510:512] == b"\x55\xaa" and any(head[446:510]):
        found.append("dos partition table")
    if not found and (any(head) or any(tail)):
        found.append("data without a known signature")
    return found


def _marks(head: bytes) -> List[str]:
    return sorted({mark.name for mark in MARKS if head[mark.at : mark.at + len(mark.magic)] == mark.magic})


def _md_at_end(size: int, tail: bytes) -> List[str]:
    """md 1.0 lies 8 KiB before the end, at a multiple of 4 KiB; md 0.90 in the last 64 to 128 KiB (md(4))."""
    begin = size - len(tail)
    places = [(size // 512 - 16) // 8 * 8 * 512, size // 65536 * 65536 - 65536]
    hit = any(at - begin >= 0 and tail[at - begin :][:4] == b"\xfc\x4e\x2b\xa9" for at in places)
    return ["md array"] if hit else []


def _partitions(target: Target) -> List[str]:
    """Partitions of a GPT, with what is in each."""
    from baremetal.agents import gpt  # late: not every look needs it
    from baremetal.agents.finish import HEAD as TABLE
    from baremetal.agents.finish import Held

    disk: Any = Held(target, target.read(0, min(TABLE, target.size)))
    try:
        table = gpt.read(disk, target.sector)
    except gpt.BadTable:
        try:
            table = gpt.read_backup(disk, target.size, target.sector)
        except gpt.BadTable:
            return []
    return ["gpt"] + [_partition(target, p.index, p.name, p.first * target.sector) for p in table.partitions]


def _partition(target: Target, index: int, name: str, start: int) -> str:
    inside = _marks(target.read(start, 128 * 1024)) if start < target.size else []
    return f"partition {index} {name!r}: {', '.join(inside) or 'unknown'}"
