"""The last bytes of a deployment: config drive, partition tables, then the boot sector.

The first MiB of an image is kept back until everything else is on stable
storage. A disk whose writing stopped anywhere has no partition table and no
boot code: it can never boot half an image.
"""

from __future__ import annotations

import io
from typing import Any, Dict, List, Optional, Sequence, cast

from baremetal.agents import gpt, keep, mbr
from baremetal.agents.blockdev import MIB, Target
from baremetal.agents.trouble import ConfigDriveBad

LABEL = "config-2"
HEAD = MIB
MIN_DRIVE = 4 * MIB  # bytes; room for a later rewrite of the drive


class Held(io.RawIOBase):
    """The disk as it will be: its first bytes (at most HEAD) in memory, the rest on the target."""

    def __init__(self, target: Target, head: bytes) -> None:
        super().__init__()
        self.target = target
        self.head = bytearray(head)
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset if whence == 0 else self.target.size + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        if self._at + size <= len(self.head):
            data = bytes(self.head[self._at : self._at + size])
        else:
            data = self.target.read(self._at, size)
        self._at += len(data)
        return data

    def write(self, data: Any) -> int:
        if self._at + len(data) <= len(self.head):
            self.head[self._at : self._at + len(data)] = data
        else:
            self.target.write_bytes(self._at, bytes(data))
        self._at += len(data)
        return len(data)


def drive_size(iso: Optional[bytes]) -> int:
    """Bytes the config drive takes on the disk."""
    return 0 if iso is None else max(MIN_DRIVE, -(-len(iso) // MIB) * MIB)


def finish(
    target: Target,
    head: bytes,
    iso: Optional[bytes],
    kept: Sequence[gpt.Partition] = (),
    wanted: Optional[keep.Wanted] = None,
) -> Dict[str, Any]:
    """Tables fitted to the disk, config drive written, boot sector last. What was done, for the report."""
    held = Held(target, head)
    wish = wanted or keep.Wanted([])
    if (kept or wish.data_name) and not _has_gpt(held):
        raise ConfigDriveBad(
            "the image has no GPT: no partition can be preserved or added", fix="build the image with a GPT"
        )
    done = _with_gpt(held, iso, list(kept), wish) if _has_gpt(held) else _with_mbr(held, iso)
    drive = done["config_drive"]
    if iso is not None:
        target.write_bytes(drive["first_byte"], iso)
    target.sync()
    target.write_bytes(0, bytes(held.head))
    target.sync()
    return {**done, "kernel_reread": target.reread_partitions()}


def _has_gpt(held: Held) -> bool:
    return held.head[held.target.sector :][:8] == gpt.SIGNATURE


def _with_gpt(held: Held, iso: Optional[bytes], kept: List[gpt.Partition], wish: keep.Wanted) -> Dict[str, Any]:
    disk = cast("io.BufferedRandom", held)
    table = gpt.fit(gpt.read(disk, held.target.sector), held.target.size)
    done: Dict[str, Any] = {"table": "gpt", "config_drive": None}
    table = keep.with_kept(gpt.remove(table, LABEL) if iso is not None else table, kept)
    if iso is not None:
        table = gpt.append(table, drive_size(iso), gpt.LINUX_DATA, LABEL)
        part = table.partitions[-1]
        done["config_drive"] = {
            "partition": part.index, "first_byte": part.first * table.sector, "bytes": len(iso),
        }  # fmt: skip
    if wish.data_name:
        table, fresh = keep.data_partition(table, wish.data_name, wish.data_bytes)
        if fresh:  # an old file system may lie where it begins
            held.target.zero(fresh.first * table.sector, min(MIB, fresh.sectors * table.sector))
        done["data_partition"] = {"name": wish.data_name, "made": fresh is not None}
    if kept:
        done["preserved"] = [p.name for p in kept]
    gpt.write(disk, table, held.target.size)
    if gpt.is_protective(bytes(held.head[:512])):
        gpt.write_protective_mbr(disk, held.target.size, table.sector)
    return done


def _with_mbr(held: Held, iso: Optional[bytes]) -> Dict[str, Any]:
    if iso is None:
        return {"table": "none or dos", "config_drive": None}
    try:
        number, first = mbr.append(held.head, held.target.size, held.target.sector, drive_size(iso))
    except gpt.BadTable as exc:
        raise ConfigDriveBad(
            "the image leaves no place for a config drive", detail=str(exc), fix="build the image with a GPT"
        ) from exc
    return {"table": "dos", "config_drive": {"partition": number, "first_byte": first, "bytes": len(iso)}}


def boot_entry(target: Target, efivars: str) -> Optional[Dict[str, Any]]:
    """Our UEFI boot entry for the disk as it is now; None on a BIOS machine, or for a disk without a loader."""
    import os

    from baremetal.agents import efiboot, fat

    if not os.path.isdir(efivars):
        return None
    try:
        table = gpt.read(cast("Any", Held(target, b"")), target.sector)
        esp = efiboot.esp_of(table)
        if esp is None:
            return None
        start = esp.first * target.sector
        loader = fat.loader(lambda offset, length: target.read(start + offset, length), os.uname().machine)
    except (gpt.BadTable, ValueError):
        return None
    return efiboot.Variables(efivars).put(efiboot.LABEL, esp, loader) if loader else None
