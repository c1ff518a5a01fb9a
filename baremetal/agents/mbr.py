"""DOS partition tables, as far as a config drive needs them: is there one, add one partition."""

from __future__ import annotations

import struct
from typing import List, NamedTuple, Tuple

from baremetal.agents.gpt import ALIGN, BadTable

LINUX = 0x83
_ENTRY = struct.Struct("<B3sB3sII")
_NO_CHS = b"\xfe\xff\xff"  # beyond what cylinder/head/sector can say


class Entry(NamedTuple):
    """`first` and `sectors` in logical sectors."""

    status: int
    type: int
    first: int
    sectors: int


def read(head: bytes) -> List[Entry]:
    """The four primary entries; BadTable when sector 0 holds no DOS table."""
    if len(head) < 512 or head[510:512] != b"\x55\xaa":
        raise BadTable("no partition table in sector 0")
    raw = [_ENTRY.unpack_from(head, 446 + 16 * n) for n in range(4)]
    entries = [Entry(status, kind, first, count) for status, _, kind, _, first, count in raw]
    if any(e.status not in (0, 0x80) for e in entries) or not any(e.type for e in entries):
        raise BadTable("no partition table in sector 0")
    return entries


def append(head: bytearray, size: int, sector: int, length: int) -> Tuple[int, int]:
    """Put a Linux partition of `length` bytes at the end of the disk; its number and first byte."""
    entries = read(bytes(head))
    free = next((n for n, e in enumerate(entries) if not e.type), None)
    if free is None:
        raise BadTable("all four primary partitions are taken", fix="build the image with GPT")
    step = ALIGN // sector
    count = -(-length // ALIGN) * step
    end = min(size // sector, 1 << 32)
    first = (end - count) // step * step
    taken = max((e.first + e.sectors for e in entries if e.type), default=0)
    if first < taken:
        raise BadTable(f"no room for a partition of {length} bytes behind sector {taken}")
    _ENTRY.pack_into(head, 446 + 16 * free, 0, _NO_CHS, LINUX, _NO_CHS, first, count)
    return free + 1, first * sector
