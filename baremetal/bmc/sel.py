"""The system event log (IPMI 2.0 §31, §32): read incrementally, cleared only on request."""

from __future__ import annotations

from collections.abc import Sequence

from baremetal.bmc import words
from baremetal.bmc.base import LogRecord
from baremetal.bmc.faults import BmcRefused
from baremetal.bmc.link import STORAGE, IpmiBmc
from baremetal.errors import UsageError

MOST_RECORDS = 65535
# Time stamps up to this are seconds since the BMC started, not a date (§37.1).
NO_CLOCK = 0x20000000


async def read(bmc: IpmiBmc, since: str | None) -> Sequence[LogRecord]:
    """Records in the log's order; after `since` when that record is still there, else all."""
    info = await bmc.ask("describe its event log", STORAGE, 0x40, least=3)
    if not int.from_bytes(info[1:3], "little"):
        return []
    try:
        start = int(since or "0", 16) & 0xFFFF
    except ValueError:
        raise UsageError(f"{bmc.host}: {str(since)[:20]!r} is no record id", fix="ids are like 00a3") from None
    records, at = await _walk(bmc, start)
    if since and not records and at is None:  # the log was cleared in between
        records, _ = await _walk(bmc, 0)
    elif since:
        records = records[1:]
    return [decode(record) for record in records]


async def _walk(bmc: IpmiBmc, record: int) -> tuple[list[bytes], int | None]:
    found: list[bytes] = []
    seen: set[int] = set()
    last: int | None = None
    while record != 0xFFFF and record not in seen and len(seen) < MOST_RECORDS:
        seen.add(record)
        answer = await bmc.link.command(STORAGE, 0x43, b"\x00\x00" + record.to_bytes(2, "little") + b"\x00\xff")
        if answer.code or len(answer.data) < 18:
            break
        found.append(answer.data[2:18])
        last = record
        record = int.from_bytes(answer.data[:2], "little")
    return found, last


def decode(record: bytes) -> LogRecord:
    """16 bytes in words; OEM records keep their bytes."""
    name = f"{int.from_bytes(record[:2], 'little'):04x}"
    kind = record[2]
    stamp = int.from_bytes(record[3:7], "little")
    when = float(stamp) if NO_CLOCK < stamp < 0xFFFFFFFF else None
    if kind >= 0xE0:
        return LogRecord(name, None, "", "OEM", record[3:].hex())
    if kind != 2:
        return LogRecord(name, when, "", "OEM", record[7:].hex())
    asserted = not record[12] & 0x80
    text, severity = words.offset(record[12] & 0x7F, record[10], record[13] & 15, asserted)
    return LogRecord(name, when, f"#{record[11]:02x}", words.kind(record[10]), text, severity, asserted)


async def clear(bmc: IpmiBmc) -> None:
    """Erases the log with a fresh reservation and waits until the BMC says it is done."""
    for _ in range(3):
        reservation = (await bmc.ask("reserve its event log", STORAGE, 0x42, least=2))[:2]
        answer = await bmc.link.command(STORAGE, 0x47, reservation + b"CLR\xaa")
        if answer.code == 0xC5:  # somebody else got in between
            continue
        for _ in range(50):
            if answer.code or (answer.data and answer.data[0] & 15 == 1):
                break
            answer = await bmc.link.command(STORAGE, 0x47, reservation + b"CLR\x00")
        if answer.code == 0:
            return
    raise BmcRefused(
        f"{bmc.host}: event log not cleared", detail="the reservation was lost three times", fix="try again"
    )
