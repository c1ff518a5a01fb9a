"""A BMC's clock and the age of its firmware."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

from baremetal.bmc.faults import BmcError
from baremetal.bmc.link import STORAGE

if TYPE_CHECKING:
    from baremetal.bmc.audit import Finding
    from baremetal.bmc.base import BmcDriver

OFF_S = 300.0
OLD = datetime.timedelta(days=3 * 365)


async def findings(bmc: BmcDriver) -> list[Finding]:
    """Clock by IPMI's event log, release date of the firmware by Redfish; nothing where neither tells."""
    from baremetal.bmc.audit import parts_of

    found: list[Finding] = []
    for part in parts_of(bmc):
        try:
            if getattr(part, "link", None) is not None:
                found += clock(await sel_time(part), time.time())
            elif released := getattr(part, "firmware_released", None):
                found += age(await released())
        except BmcError:
            continue
    return found


async def sel_time(driver: Any) -> float | None:
    """Get SEL Time, Unix seconds; None when the BMC counts from its own start."""
    answer = await driver.link.command(STORAGE, 0x48)
    if answer.code or len(answer.data) < 4:
        return None
    stamp = int.from_bytes(answer.data[:4], "little")
    return float(stamp) if stamp != 0xFFFFFFFF else None


def clock(seen: float | None, now: float) -> list[Finding]:
    """Off by more than five minutes: its event log cannot be laid beside others. Pure."""
    from baremetal.bmc.audit import Finding

    if seen is None:
        return []
    if seen < 0x20000000:
        return [Finding("info", "clock-unset", "its clock was never set", "set NTP on the BMC")]
    off = seen - now
    if abs(off) < OFF_S:
        return []
    zone = "; a time zone?" if abs(off) < 15 * 3600 and abs(off) % 900 < 120 else ""
    return [Finding("info", "clock-off", f"its clock is off by {off / 60:+.0f} min{zone}", "set NTP on the BMC")]


def age(released: str | None, now: datetime.date | None = None) -> list[Finding]:
    """`released` is ISO 8601 as firmware inventories tell it. Pure."""
    from baremetal.bmc.audit import Finding

    try:
        day = datetime.date.fromisoformat((released or "")[:10])
    except ValueError:
        return []
    if (now or datetime.date.today()) - day < OLD or day.year < 2000:
        return []
    return [Finding("medium", "firmware-old", f"its firmware was released on {day}", "update it")]
