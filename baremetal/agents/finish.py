"""The last bytes of a deployment: config drive, partition tables, then the boot sector.

The first MiB of an image is kept back until everything else is on stable
storage. A disk whose writing stopped anywhere has no partition table and no
boot code: it can never boot half an image.
"""

from __future__ import annotations

import io
from typing import Any, Dict, Optional, cast

from baremetal.agents import gpt, mbr
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


def finish(target: Target, head: bytes, iso: Optional[bytes]) -> Dict[str, Any]:
    """Tables fitted to the disk, config drive written, boot sector last. What was done, for the report."""
    held = Held(target, head)
    drive = _with_gpt(held, iso) if _has_gpt(held) else _with_mbr(held, iso)
    if iso is not None:
        target.write_bytes(drive["first_byte"], iso)
    target.sync()
    target.write_bytes(0, bytes(held.head))
    target.sync()
    return {"table": drive.pop("table"), "config_drive": drive or None, "kernel_reread": target.reread_partitions()}


def _has_gpt(held: Held) -> bool:
    return held.head[held.target.sector :][:8] == gpt.SIGNATURE


def _with_gpt(held: Held, iso: Optional[bytes]) -> Dict[str, Any]:
    disk = cast("io.BufferedRandom", held)
    table = gpt.fit(gpt.read(disk, held.target.sector), held.target.size)
    done: Dict[str, Any] = {"table": "gpt"}
    if iso is not None:
        table = gpt.append(gpt.remove(table, LABEL), drive_size(iso), gpt.LINUX_DATA, LABEL)
        part = table.partitions[-1]
        done.update(partition=part.index, first_byte=part.first * table.sector, bytes=len(iso))
    gpt.write(disk, table, held.target.size)
    if gpt.is_protective(bytes(held.head[:512])):
        gpt.write_protective_mbr(disk, held.target.size, table.sector)
    return done


def _with_mbr(held: Held, iso: Optional[bytes]) -> Dict[str, Any]:
    if iso is None:
        return {"table": "none or dos"}
    try:
        number, first = mbr.append(held.head, held.target.size, held.target.sector, drive_size(iso))
    except gpt.BadTable as exc:
        raise ConfigDriveBad(
            "the image leaves no place for a config drive", detail=str(exc), fix="build the image with a GPT"
        ) from exc
    return {"table": "dos", "partition": number, "first_byte": first, "bytes": len(iso)}
