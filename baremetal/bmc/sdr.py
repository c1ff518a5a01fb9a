"""Sensors: the SDR repository read once per firmware, then one reading each (IPMI 2.0 §33, §35, §43)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from baremetal.bmc import fru, words
from baremetal.bmc.base import Reading
from baremetal.bmc.completion import error
from baremetal.bmc.link import SENSOR, STORAGE, IpmiBmc

# More records than any machine has; stops a repository whose "next" runs in a circle.
MOST_RECORDS = 2048
_THRESHOLDS = (
    ("upper_nonrecoverable", 36, 5),
    ("upper_critical", 37, 4),
    ("upper_warning", 38, 3),
    ("lower_nonrecoverable", 39, 2),
    ("lower_critical", 40, 1),
    ("lower_warning", 41, 0),
)


@dataclass(frozen=True)
class Sensor:
    """One sensor as its SDR describes it. `m`, `b` and the exponents turn a raw byte into units."""

    number: int
    lun: int
    name: str
    sensor_type: int
    reading_type: int
    unit: str = ""
    analog: str = "none"
    linearization: int = 0
    m: int = 0
    b: int = 0
    b_exp: int = 0
    r_exp: int = 0
    raw_thresholds: dict[str, int] = field(default_factory=dict)

    @property
    def threshold_based(self) -> bool:
        return self.reading_type == 1

    def value(self, raw: int) -> float | None:
        """y = L((M·x + B·10^b)·10^r), None where the formula is not the standard's linear one."""
        if self.linearization >= 0x70 or self.analog == "none":
            return None
        number = _signed(raw, self.analog)
        y = (self.m * number + self.b * 10.0**self.b_exp) * 10.0**self.r_exp
        return _linear(self.linearization, y)

    def thresholds(self) -> dict[str, float]:
        """Thresholds in the sensor's unit."""
        values = ((name, self.value(raw)) for name, raw in self.raw_thresholds.items())
        return {name: round(value, 4) for name, value in values if value is not None}


@dataclass(frozen=True)
class Repository:
    """All sensors of one firmware, in the repository's order."""

    sensors: tuple[Sensor, ...]


@lru_cache(maxsize=256)
def _share(sensors: tuple[bytes, ...]) -> Repository:
    """Decoded once for all machines with the same records: 500 alike servers hold one copy."""
    return Repository(tuple(found for found in map(decode, sensors) if found is not None))


Records = tuple[bytes, ...]
# (manufacturer, product, firmware, record count, times of last change) -> records -> who said them, per process.
_CACHE: dict[bytes, dict[Records, set[str]]] = {}
MOST_KEYS, MOST_VERSIONS = 64, 4
# One BMC alone may lie, and then hide another machine's heat: others believe what two said alike.
WITNESSES = 2


def _known(key: bytes, host: str) -> Records | None:
    versions = _CACHE.get(key, {})
    own = (records for records, hosts in versions.items() if host in hosts)
    agreed = (records for records, hosts in versions.items() if len(hosts) >= WITNESSES and len(versions) == 1)
    return next(own, None) or next(agreed, None)


def _note(key: bytes, records: Records, host: str) -> None:
    if key not in _CACHE and len(_CACHE) >= MOST_KEYS:
        return
    versions = _CACHE.setdefault(key, {})
    if records in versions or len(versions) < MOST_VERSIONS:
        versions.setdefault(records, set()).add(host)


async def load(bmc: IpmiBmc) -> Repository:
    """The sensors of this BMC; the records come from the cache when another BMC has the same repository."""
    info = await bmc.link.command(STORAGE, 0x20)
    if info.code in (0xC1, 0xC2):
        return Repository(())
    if info.code:
        raise error(bmc.host, "describe its sensors", info.code)
    device = await bmc.link.command(0x06, 0x01)
    # Free space and operation support may differ between twins; count and change times may not.
    key = bytes(device.data[:11]) + info.data[:3] + info.data[5:13]
    changed = info.data[5:13].strip(b"\x00\xff")
    records = _known(key, bmc.host) if changed else None
    if records is None:
        records = tuple([record async for record in _records(bmc)])
        if changed:
            _note(key, records, bmc.host)
    return _share(records)


async def _records(bmc: IpmiBmc) -> AsyncIterator[bytes]:
    record, reservation, seen = 0, b"\x00\x00", set[int]()
    pieces = False
    while record != 0xFFFF and record not in seen and len(seen) < MOST_RECORDS:
        seen.add(record)
        data = None
        if not pieces:
            answer = await bmc.link.command(STORAGE, 0x23, reservation + record.to_bytes(2, "little") + b"\x00\xff")
            if answer.code == 0 and len(answer.data) >= 7:
                data = answer.data
            else:
                pieces = answer.code in (0xCA, 0xC8, 0xC7, 0xFF, 0xCC, 0xC5)
                if not pieces:
                    return
        if data is None:
            reservation = await _reserve(bmc)
            data = await _in_pieces(bmc, record, reservation)
        if data is None:
            return
        yield data[2:]
        record = int.from_bytes(data[:2], "little")


async def _reserve(bmc: IpmiBmc) -> bytes:
    answer = await bmc.link.command(STORAGE, 0x22)
    return answer.data[:2] if answer.code == 0 and len(answer.data) >= 2 else b"\x00\x00"


async def _in_pieces(bmc: IpmiBmc, record: int, reservation: bytes) -> bytes | None:
    """One record by its header, then 16 bytes at a time; a lost reservation is made again."""
    out, want, tries = b"", 5, 0
    following = b""
    while len(out) < want:
        piece = bytes([len(out), min(16, want - len(out))])
        answer = await bmc.link.command(STORAGE, 0x23, reservation + record.to_bytes(2, "little") + piece)
        if answer.code == 0xC5 and tries < 4:
            tries += 1
            reservation = await _reserve(bmc)
            continue
        if answer.code or len(answer.data) < 3:
            return None
        following = answer.data[:2]
        out += answer.data[2:]
        if want == 5 and len(out) >= 5:
            want = 5 + out[4]
    return following + out


def decode(record: bytes) -> Sensor | None:
    """A sensor of a full (01h) or compact (02h) record; None for any other kind or a short one."""
    if len(record) < 32 or record[3] not in (1, 2):
        return None
    name_at = 47 if record[3] == 1 else 31
    if len(record) <= name_at:
        return None
    length = record[name_at] & 0x1F
    name = fru.text_of(record[name_at] >> 6, record[name_at + 1 : name_at + 1 + length]).strip("\x00 ")
    compact = Sensor(
        number=record[7],
        lun=record[6] & 3,
        name="".join(char for char in name if char.isprintable()) or f"sensor {record[7]}",
        sensor_type=record[12],
        reading_type=record[13],
        unit=words.unit(record[21], record[22], record[20]),
    )
    if record[3] == 2:
        return compact
    m = _twos(record[24] | (record[25] & 0xC0) << 2, 10)
    b = _twos(record[26] | (record[27] & 0xC0) << 2, 10)
    readable = record[18]
    return replace(
        compact,
        analog=("unsigned", "ones", "twos", "none")[record[20] >> 6],
        linearization=record[23] & 0x7F,
        m=m,
        b=b,
        b_exp=_twos(record[29] & 15, 4),
        r_exp=_twos(record[29] >> 4, 4),
        raw_thresholds={key: record[at] for key, at, bit in _THRESHOLDS if readable >> bit & 1},
    )


async def readings(bmc: IpmiBmc, repository: Repository) -> Sequence[Reading]:
    """Every sensor's reading now; a sensor that does not answer is `unknown`, not an error."""
    found = []
    for sensor in repository.sensors:
        answer = await bmc.link.command(SENSOR, 0x2D, bytes([sensor.number]), sensor.lun)
        found.append(interpret(sensor, answer.data if answer.code == 0 else b""))
    return found


def interpret(sensor: Sensor, data: bytes) -> Reading:
    """One Get Sensor Reading answer in words."""
    kind = words.kind(sensor.sensor_type)
    blank = Reading(sensor.name, kind, sensor.unit, thresholds=sensor.thresholds())
    if len(data) < 2:
        return blank
    if data[1] & 0x20 or not data[1] & 0x40:  # initial update in progress, or scanning disabled
        return Reading(sensor.name, kind, sensor.unit, state="absent", thresholds=blank.thresholds)
    if sensor.threshold_based:
        value = sensor.value(data[0])
        return Reading(
            sensor.name,
            kind,
            sensor.unit,
            value=None if value is None else round(value, 4),
            state=_state(data[2] if len(data) > 2 else 0),
            thresholds=blank.thresholds,
        )
    bits = (data[2] if len(data) > 2 else 0) | (data[3] & 0x7F if len(data) > 3 else 0) << 8
    asserted = [words.offset(sensor.reading_type, sensor.sensor_type, n) for n in range(15) if bits >> n & 1]
    worst = {severity for _, severity in asserted}
    state = "critical" if "critical" in worst else "warning" if "warning" in worst else "ok"
    return Reading(sensor.name, kind, sensor.unit, state=state, discrete=tuple(text for text, _ in asserted))


def _state(status: int) -> str:
    if status & 0b110110:
        return "critical"
    return "warning" if status & 0b001001 else "ok"


def _twos(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _signed(raw: int, analog: str) -> int:
    if analog == "twos":
        return _twos(raw, 8)
    if analog == "ones":
        return raw - 255 if raw & 0x80 else raw
    return raw


def _linear(function: int, y: float) -> float | None:
    """Linearisation functions of §43.1 byte 24: only those that keep the value real."""
    try:
        match function:
            case 0:
                return y
            case 7:
                return 1 / y
            case 8:
                return float(y**2)
            case 9:
                return float(y**3)
            case 10:
                return float(y**0.5) if y >= 0 else None
            case 11:
                return float(abs(y) ** (1 / 3)) * (1 if y >= 0 else -1)
    except (ZeroDivisionError, OverflowError):
        return None
    return None
