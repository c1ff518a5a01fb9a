"""Sensor data records (§43) and the few sensors a virtual BMC has."""

from __future__ import annotations

from dataclasses import dataclass

_DEGREES, _VOLTS, _RPM, _WATTS = 1, 4, 18, 6


@dataclass(frozen=True, slots=True)
class Sensor:
    """A threshold sensor; value = raw * m * 10**exponent. `needs_power`: no reading while the system is off.

    Thresholds are raw: upper critical, upper non-critical, lower critical, lower
    non-critical; None = not there.
    """

    number: int
    name: str
    type: int
    unit: int
    entity: int
    raw: int
    m: int = 1
    exponent: int = 0
    upper: tuple[int, int] | None = None
    lower: tuple[int, int] | None = None
    needs_power: bool = True

    @property
    def thresholds(self) -> bytes:
        """As Get Sensor Thresholds answers: mask, LNC, LC, LNR, UNC, UC, UNR (§35.9)."""
        uc, unc = self.upper or (0, 0)
        lc, lnc = self.lower or (0, 0)
        return bytes((self._readable_mask(), lnc, lc, 0, unc, uc, 0))

    @property
    def state(self) -> int:
        """Threshold comparison bits of Get Sensor Reading."""
        bits = 0
        if self.lower:
            bits |= 0x01 * (self.raw <= self.lower[1]) | 0x02 * (self.raw <= self.lower[0])
        if self.upper:
            bits |= 0x08 * (self.raw >= self.upper[1]) | 0x10 * (self.raw >= self.upper[0])
        return bits

    def _readable_mask(self) -> int:
        return (0x18 if self.upper else 0) | (0x03 if self.lower else 0)

    def record(self, record_id: int) -> bytes:
        """Full sensor record (type 01h, §43.1)."""
        name = self.name.encode("ascii")[:16]
        uc, unc = self.upper or (0, 0)
        lc, lnc = self.lower or (0, 0)
        mask = self._readable_mask()
        masks = bytes((0, 0, 0, 0, mask, mask if mask else 0))
        body = (
            bytes((0x20, 0, self.number, self.entity, 1, 0x7F, 0x68, self.type, 0x01))
            + masks
            + bytes((0, self.unit, 0, 0, self.m & 0xFF, self.m >> 8 << 6, 0, 0, 0, (self.exponent & 0xF) << 4))
            + bytes((0x07, self.raw, self.raw, self.raw, 0xFF, 0, 0, uc, unc, 0, lc, lnc, 2, 2, 0, 0, 0))
            + bytes((0xC0 | len(name),))
            + name
        )
        return _header(record_id, 0x01, body)


#: The sensors of the virtual server.
SENSORS = (
    Sensor(1, "CPU Temp", 0x01, _DEGREES, 0x03, 41, upper=(95, 90), lower=(1, 3)),
    Sensor(2, "Inlet Temp", 0x01, _DEGREES, 0x37, 23, upper=(45, 40), needs_power=False),
    Sensor(3, "Fan 1", 0x04, _RPM, 0x1D, 54, m=100, lower=(5, 8)),
    Sensor(4, "12V", 0x02, _VOLTS, 0x14, 121, m=1, exponent=-1, upper=(132, 128), lower=(108, 112)),
    Sensor(5, "PSU Power", 0x0B, _WATTS, 0x0A, 62, m=2, upper=(240, 220), needs_power=False),
)


def _header(record_id: int, kind: int, body: bytes) -> bytes:
    return bytes((record_id & 0xFF, record_id >> 8, 0x51, kind, len(body))) + body


def controller_record(record_id: int, name: str) -> bytes:
    """Management controller device locator (type 12h, §43.9): the BMC itself, with SEL, SDR, FRU and sensors."""
    text = name.encode("ascii", "replace")[:16]
    body = bytes((0x20, 0, 0, 0x8F, 0, 0, 0, 0x06, 1, 0, 0xC0 | len(text))) + text
    return _header(record_id, 0x12, body)


def repository(name: str, sensors: tuple[Sensor, ...] = SENSORS) -> list[bytes]:
    """All records, ids from 1."""
    records = [controller_record(1, name)]
    records += [sensor.record(number) for number, sensor in enumerate(sensors, 2)]
    return records
