"""Partitions that survive a rebuild, and the one an operator wants for data.

While the new image is written the disk carries a table with nothing but the
kept partitions: it cannot boot, and a power cut does not lose them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, cast

from baremetal.agents import gpt
from baremetal.agents.blockdev import MIB, Target
from baremetal.agents.trouble import DiskRefused, OrderRefused

HEAD = MIB
TAIL = MIB  # bytes at the end of the disk where an old backup table may lie


class Wanted(NamedTuple):
    """What an order says: names (or GUIDs) to keep, and a data partition to have (bytes; 0: none)."""

    preserve: List[str]
    data_name: str = ""
    data_bytes: int = 0

    @classmethod
    def of(cls, args: Dict[str, Any]) -> "Wanted":
        preserve = args.get("preserve") or []
        if not isinstance(preserve, list) or not all(isinstance(p, str) and p for p in preserve):
            raise OrderRefused("preserve is a list of partition names")
        data = args.get("data_partition") or {}
        if not isinstance(data, dict):
            raise OrderRefused('data_partition is {"name": …, "size_gib": …}')
        if not data:
            return cls(preserve)
        name, size = data.get("name", "data"), data.get("size_gib")
        if not isinstance(name, str) or not 0 < len(name) <= 36 or not isinstance(size, (int, float)) or size <= 0:
            raise OrderRefused('data_partition is {"name": up to 36 characters, "size_gib": a number}')
        return cls(preserve, name, int(size * 1024) * MIB)


def find(target: Target, wanted: List[str], image_bytes: int) -> List[gpt.Partition]:
    """The partitions to keep as they are on the disk now; refused when one is missing or lies under the image."""
    if not wanted:
        return []
    table = _table(target)
    found: List[gpt.Partition] = []
    for name in wanted:
        hits = [p for p in table.partitions if name in (p.name, str(p.id))] if table else []
        if len(hits) != 1:
            raise DiskRefused(
                f"{target.path}: {len(hits) or 'no'} partition{'s' if len(hits) > 1 else ''} {name!r} to preserve",
                detail=_listing(table),
                fix="name one of those listed, or rebuild without --preserve",
                disk=target.path,
            )
        found.append(hits[0])
    for part in found:
        if part.first * target.sector < image_bytes:
            raise DiskRefused(
                f"{target.path}: partition {part.name!r} begins at byte {part.first * target.sector}, "
                f"the image takes {image_bytes}: it cannot be preserved",
                detail=_listing(table),
                fix="use a smaller image, or save the data elsewhere first",
                disk=target.path,
            )
    return found


def unbootable(target: Target, kept: List[gpt.Partition]) -> None:
    """Nothing on the disk boots after this; what is kept stays listed. Backup table first, so one is always whole."""
    if not kept:
        target.zero(0, min(HEAD, target.size))
        tail = min(TAIL, target.size) // 4096 * 4096
        target.zero(target.size // target.sector * target.sector - tail, tail)
        target.sync()
        return
    table = with_kept(gpt.empty(target.size, target.sector), kept)
    disk: Any = _plain(target)
    gpt.write(disk, table, target.size)
    target.sync()
    used = (table.entries_at + table.entry_sectors) * table.sector
    head = bytearray(target.read(0, used).ljust(HEAD, b"\0"))
    head[:512] = bytes(512)
    target.write_bytes(0, bytes(head))
    gpt.write_protective_mbr(disk, target.size, target.sector)
    target.sync()


def with_kept(table: gpt.Table, kept: List[gpt.Partition]) -> gpt.Table:
    """The table with the kept partitions in free entries; refused when they overlap another."""
    for part in kept:
        over = next((p for p in table.partitions if p.first <= part.last and part.first <= p.last), None)
        if over or part.last > table.last_usable:
            raise DiskRefused(
                f"partition {part.name!r} cannot be preserved: "
                + (f"the image's partition {over.name!r} takes its place" if over else "it reaches beyond the table")
            )
        taken = {p.index for p in table.partitions}
        # Its old number where that is free: what refers to sda5 still finds it.
        index = next(i for i in (part.index, *range(1, table.entries + 1)) if i not in taken)
        table = replace(table, partitions=(*table.partitions, replace(part, index=index)))
    return table


def data_partition(table: gpt.Table, name: str, length: int) -> "tuple[gpt.Table, Optional[gpt.Partition]]":
    """With a partition for data right before the last one; (table, None) when it is there already."""
    if any(p.name == name for p in table.partitions):
        return table, None
    behind = min((p.first for p in table.partitions if p.name == "config-2"), default=table.last_usable + 1)
    inner = replace(table, last_usable=behind - 1, partitions=tuple(p for p in table.partitions if p.first < behind))
    grown = gpt.append(inner, length, gpt.LINUX_DATA, name)
    part = grown.partitions[-1]
    taken = {p.index for p in table.partitions}
    part = replace(part, index=next(i for i in range(1, table.entries + 1) if i not in taken))
    return replace(table, partitions=(*table.partitions, part)), part


def _table(target: Target) -> Optional[gpt.Table]:
    disk: Any = _plain(target)
    try:
        return gpt.read(disk, target.sector)
    except gpt.BadTable:
        try:
            return gpt.read_backup(disk, target.size, target.sector)
        except gpt.BadTable:
            return None


def _listing(table: Optional[gpt.Table]) -> str:
    if table is None:
        return "the disk has no GPT"
    return "\n".join(f"{p.index} {p.name!r} {p.id} sectors {p.first}-{p.last}" for p in table.partitions)


def _plain(target: Target) -> Any:
    """The disk as a file."""
    from baremetal.agents.finish import Held

    return cast("Any", Held(target, b""))
