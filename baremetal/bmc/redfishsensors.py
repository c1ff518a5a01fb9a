"""Readings over Redfish: Thermal and Power of every chassis, or the newer Sensors collection."""

from __future__ import annotations

from typing import Any

from baremetal.bmc.base import Reading
from baremetal.bmc.faults import BmcUnsupported
from baremetal.bmc.redfishhttp import Doc, RedfishHttp, link

_THRESHOLDS = {
    "UpperThresholdNonCritical": "upper_warning",
    "UpperThresholdCritical": "upper_critical",
    "UpperThresholdFatal": "upper_nonrecoverable",
    "LowerThresholdNonCritical": "lower_warning",
    "LowerThresholdCritical": "lower_critical",
    "LowerThresholdFatal": "lower_nonrecoverable",
}
# (resource, list, kind, unit, members that hold the value)
_TABLES = (
    ("Thermal", "Temperatures", "Temperature", "°C", ("ReadingCelsius",)),
    ("Thermal", "Fans", "Fan", "RPM", ("Reading", "ReadingRPM")),
    ("Power", "Voltages", "Voltage", "V", ("ReadingVolts",)),
    ("Power", "PowerControl", "Power", "W", ("PowerConsumedWatts",)),
)
_UNITS = {"Cel": "°C", "Percent": "%", "%": "%", "RPM": "RPM"}


async def read(http: RedfishHttp, system: Doc) -> list[Reading]:
    """Every reading of the chassis the system stands in."""
    found: list[Reading] = []
    for item in (system.get("Links") or {}).get("Chassis") or []:
        path = item.get("@odata.id") if isinstance(item, dict) else None
        if path:
            found += await _chassis(http, await http.get(str(path)))
    return found


async def _chassis(http: RedfishHttp, chassis: Doc) -> list[Reading]:
    found: list[Reading] = []
    resources: dict[str, Doc] = {}
    for resource, table, kind, unit, members in _TABLES:
        path = link(chassis, resource)
        if path is None:
            continue
        if resource not in resources:
            resources[resource] = await _get(http, path)
        rows = resources[resource].get(table) or []
        found += [_row(row, kind, unit, members) for row in rows if isinstance(row, dict)]
    if not found and (path := link(chassis, "Sensors")):
        found = [_sensor(doc) async for doc in http.members(path)]
    return found


async def _get(http: RedfishHttp, path: str) -> Doc:
    try:
        return await http.get(path)
    except BmcUnsupported:
        return {}


def _row(row: Doc, kind: str, unit: str, members: tuple[str, ...]) -> Reading:
    value = next((row[name] for name in members if row.get(name) is not None), None)
    unit = _UNITS.get(str(row.get("ReadingUnits")), unit)
    limits = {ours: float(row[theirs]) for theirs, ours in _THRESHOLDS.items() if _number(row.get(theirs)) is not None}
    name = str(row.get("Name") or row.get("FanName") or row.get("MemberId") or kind)
    return Reading(name, kind, unit, value=_number(value), state=_state(row), thresholds=limits)


def _sensor(doc: Doc) -> Reading:
    unit = str(doc.get("ReadingUnits") or "")
    name = str(doc.get("Name") or doc.get("Id") or "sensor")
    return Reading(
        name, str(doc.get("ReadingType") or ""), _UNITS.get(unit, unit), _number(doc.get("Reading")), _state(doc)
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _state(doc: Doc) -> str:
    status = doc.get("Status") or {}
    if status.get("State") in ("Absent", "Disabled", "UnavailableOffline"):
        return "absent"
    return {"OK": "ok", "Warning": "warning", "Critical": "critical"}.get(str(status.get("Health")), "unknown")
