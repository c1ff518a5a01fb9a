"""GUID partition tables: read, repair the backup, append a partition, lay one down.

Works on any file-like object with seek/read/write, a disk or a regular file. An
image is smaller than the disk it is written to: its backup table then lies in
the middle, and the last sectors are unknown to the primary. UEFI 2.10 §5.3.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from dataclasses import dataclass, replace
from typing import BinaryIO, List, Optional, Tuple

from baremetal.errors import BaremetalError

SIGNATURE = b"EFI PART"
LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ALIGN = 1024 * 1024  # bytes; partitions of ours start on whole MiB
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")


class BadTable(BaremetalError):
    """No GPT, or a damaged one."""

    code = "partition-table"


@dataclass(frozen=True)
class Partition:
    """One entry. `first` and `last` are sectors, both inside; `index` counts from 1 as Linux does."""

    index: int
    type: uuid.UUID
    id: uuid.UUID
    first: int
    last: int
    name: str
    attributes: int = 0

    @property
    def sectors(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Table:
    """A whole table. `sector` and `entry_size` in bytes, `first_usable` and `last_usable` are sectors."""

    sector: int
    disk_id: uuid.UUID
    first_usable: int
    last_usable: int
    partitions: Tuple[Partition, ...]
    entries: int = 128
    entry_size: int = 128
    entries_at: int = 2

    @property
    def entry_sectors(self) -> int:
        return -(-self.entries * self.entry_size // self.sector)


def read(disk: BinaryIO, sector: int = 512) -> Table:
    """The primary table, checked by its CRCs; BadTable when there is none."""
    disk.seek(sector)
    return _parse(disk, disk.read(sector), sector, 1)


def read_backup(disk: BinaryIO, size: int, sector: int = 512) -> Table:
    """The table in the last sector of a disk of `size` bytes."""
    lba = size // sector - 1
    disk.seek(lba * sector)
    return _parse(disk, disk.read(sector), sector, lba)


def fit(table: Table, size: int) -> Table:
    """The same table for a disk of `size` bytes: everything up to the new backup is usable."""
    last_usable = size // table.sector - 2 - table.entry_sectors
    end = max((p.last for p in table.partitions), default=table.first_usable)
    if last_usable < end:
        raise BadTable(
            f"the partitions end at sector {end}, the disk has room up to {last_usable}",
            fix="deploy to a larger disk, or build a smaller image",
        )
    return replace(table, last_usable=last_usable)


def append(table: Table, length: int, type_id: uuid.UUID, name: str, part_id: Optional[uuid.UUID] = None) -> Table:
    """With one more partition at the very end of the disk, `length` bytes rounded up to whole MiB."""
    step = ALIGN // table.sector
    sectors = -(-length // ALIGN) * step
    first = (table.last_usable + 1 - sectors) // step * step
    end = max((p.last for p in table.partitions), default=table.first_usable - 1)
    if first <= end:
        raise BadTable(
            f"no room for the {name} partition of {length} bytes behind sector {end}",
            detail=f"last usable sector: {table.last_usable}",
            fix="deploy to a larger disk, or build a smaller image",
        )
    taken = {p.index for p in table.partitions}
    index = next((i for i in range(1, table.entries + 1) if i not in taken), None)
    if index is None:
        raise BadTable(f"all {table.entries} partition entries are taken")
    part = Partition(index, type_id, part_id or uuid.uuid4(), first, first + sectors - 1, name)
    return replace(table, partitions=(*table.partitions, part))


def remove(table: Table, name: str) -> Table:
    """Without the partitions of that name."""
    return replace(table, partitions=tuple(p for p in table.partitions if p.name != name))


def write(disk: BinaryIO, table: Table, size: int) -> None:
    """Both copies, backup first, so that at every moment one of them is whole."""
    entries = _entries(table)
    last = size // table.sector - 1
    backup_entries = last - table.entry_sectors
    for at, data in (
        (backup_entries, entries),
        (last, _header(table, entries, last, 1, backup_entries)),
        (table.entries_at, entries),
        (1, _header(table, entries, 1, last, table.entries_at)),
    ):
        disk.seek(at * table.sector)
        disk.write(data)
    disk.flush()


def write_protective_mbr(disk: BinaryIO, size: int, sector: int = 512) -> None:
    """The MBR that tells old tools "GPT here", boot code and disk signature untouched (UEFI §5.2.3)."""
    disk.seek(0)
    boot = bytearray(disk.read(512))
    count = min(size // sector - 1, 0xFFFFFFFF)
    boot[446:510] = struct.pack("<B3sB3sII", 0, b"\0\x02\0", 0xEE, b"\xff\xff\xff", 1, count) + bytes(48)
    boot[510:512] = b"\x55\xaa"
    disk.seek(0)
    disk.write(boot)


def is_protective(mbr: bytes) -> bool:
    """One entry of type EE and nothing else (a hybrid MBR is left alone)."""
    types = [mbr[446 + 16 * n + 4] for n in range(4)]
    return mbr[510:512] == b"\x55\xaa" and sorted(types) == [0, 0, 0, 0xEE]


def empty(size: int, sector: int = 512, disk_id: Optional[uuid.UUID] = None) -> Table:
    """A fresh table with no partitions for a disk of `size` bytes."""
    table = Table(sector, disk_id or uuid.uuid4(), 0, 0, ())
    first = 2 + table.entry_sectors
    return fit(replace(table, first_usable=first), size)


def file_size(disk: BinaryIO) -> int:
    """Bytes of a disk or file, by seeking to its end."""
    return disk.seek(0, os.SEEK_END)


def _parse(disk: BinaryIO, raw: bytes, sector: int, lba: int) -> Table:
    if len(raw) < 92 or raw[:8] != SIGNATURE:
        raise BadTable(f"no GPT header in sector {lba}", detail=f"sector size {sector}")
    fields = _HEADER.unpack_from(raw)
    _, _, header_size, crc, _, my_lba, _, first, last, disk_id, entries_at, count, entry_size, entries_crc = fields
    if not 92 <= header_size <= len(raw) or _crc(raw[:16] + bytes(4) + raw[20:header_size]) != crc or my_lba != lba:
        raise BadTable(f"the GPT header in sector {lba} is damaged")
    if not (128 <= entry_size <= 4096 and entry_size % 8 == 0 and 1 <= count <= 1024):
        raise BadTable(f"the GPT has {count} entries of {entry_size} bytes")
    disk.seek(entries_at * sector)
    area = disk.read(count * entry_size)
    if len(area) < count * entry_size or _crc(area) != entries_crc:
        raise BadTable(f"the GPT entries of sector {lba} are damaged")
    partitions = _partitions(area, entry_size)
    return Table(sector, uuid.UUID(bytes_le=disk_id), first, last, partitions, count, entry_size, entries_at)


def _partitions(area: bytes, entry_size: int) -> Tuple[Partition, ...]:
    found: List[Partition] = []
    for n in range(len(area) // entry_size):
        kind, part_id, first, last, attributes, name = _ENTRY.unpack_from(area, n * entry_size)
        if kind == bytes(16):
            continue
        if last < first:
            raise BadTable(f"partition {n + 1} ends before it begins")
        text = name.decode("utf-16-le", "replace").partition("\0")[0]
        found.append(
            Partition(n + 1, uuid.UUID(bytes_le=kind), uuid.UUID(bytes_le=part_id), first, last, text, attributes)
        )
    return tuple(found)


def _entries(table: Table) -> bytes:
    area = bytearray(table.entries * table.entry_size)
    for p in table.partitions:
        name = p.name.encode("utf-16-le")[:72].ljust(72, b"\0")
        raw = _ENTRY.pack(p.type.bytes_le, p.id.bytes_le, p.first, p.last, p.attributes, name)
        start = (p.index - 1) * table.entry_size
        area[start : start + len(raw)] = raw
    return bytes(area)


def _header(table: Table, entries: bytes, lba: int, other: int, entries_at: int) -> bytes:
    def pack(crc: int) -> bytes:
        return _HEADER.pack(
            SIGNATURE, 0x00010000, 92, crc, 0, lba, other, table.first_usable, table.last_usable,
            table.disk_id.bytes_le, entries_at, table.entries, table.entry_size, _crc(entries),
        )  # fmt: skip

    return pack(_crc(pack(0))).ljust(table.sector, b"\0")


def _crc(data: bytes) -> int:
    return zlib.crc32(data) & 0xFFFFFFFF
