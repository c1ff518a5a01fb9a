"""The system event log (§31-32): records of 16 bytes in order of arrival, a bounded number of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

SIZE = 16
_POWER_UNIT = 0x09
_LOG_DISABLED = 0x10


@dataclass(slots=True)
class Sel:
    """Records and when they last changed (Unix seconds, as the BMC's clock)."""

    capacity: int = 512
    records: list[bytes] = field(default_factory=list)
    next_id: int = 1
    added_at: int = 0
    erased_at: int = 0
    overflow: bool = False

    def add(self, record: bytes, now: int) -> int | None:
        """Keep a record under a new id; system events get the time. None when full."""
        if len(self.records) >= self.capacity:
            self.overflow = True
            return None
        number = self.next_id
        self.next_id = number + 1 if number < 0xFFFE else 1
        body = record[2:SIZE].ljust(SIZE - 2, b"\0")
        if body[0] < 0xE0:
            body = body[:1] + struct.pack("<I", now & 0xFFFFFFFF) + body[5:]
        self.records.append(struct.pack("<H", number) + body)
        self.added_at = now
        return number

    def event(self, sensor_type: int, sensor: int, offset: int, now: int, data: bytes = b"\xff\xff") -> None:
        """A sensor-specific event from the BMC itself."""
        self.add(struct.pack("<HBIHBBBBB", 0, 2, 0, 0x20, 4, sensor_type, sensor, 0x6F, offset) + data, now)

    def power(self, on: bool, now: int) -> None:
        """Power unit: power off (offset 0) asserted or deasserted."""
        direction = 0x80 if on else 0x00
        record = struct.pack("<HBIHBBBBB", 0, 2, 0, 0x20, 4, _POWER_UNIT, 0x51, direction | 0x6F, 0) + b"\xff\xff"
        self.add(record, now)

    def clear(self, now: int) -> None:
        """Erase, and log that it was erased (event logging disabled, offset 2)."""
        self.records.clear()
        self.erased_at = now
        self.overflow = False
        self.event(_LOG_DISABLED, 0x52, 2, now)

    def find(self, number: int) -> int | None:
        """Index of a record by id; 0 is the first, FFFFh the last."""
        if not self.records:
            return None
        if number in (0, 0xFFFF):
            return 0 if number == 0 else len(self.records) - 1
        wanted = struct.pack("<H", number)
        return next((i for i, record in enumerate(self.records) if record[:2] == wanted), None)
