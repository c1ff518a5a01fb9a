"""The event log over Redfish: the system's own, or the manager's SEL."""

from __future__ import annotations

from datetime import datetime

from baremetal.bmc.base import LogRecord
from baremetal.bmc.faults import BmcUnsupported
from baremetal.bmc.redfishhttp import Doc, RedfishHttp, link

# Logs that hold hardware events, best first; others (audit, lifecycle) are not events.
_PREFERRED = ("sel", "eventlog", "event", "log1", "iml", "standard", "log")
_OTHERS = ("audit", "lclog", "lifecycle", "fault", "dump")
MOST_RECORDS = 10000


async def service(http: RedfishHttp, holders: list[Doc]) -> Doc:
    """The log service to read: the first holder that has one."""
    for holder in holders:
        path = link(holder, "LogServices")
        if path is None:
            continue
        found = [doc async for doc in http.members(path)]
        if found:
            return min(found, key=_rank)
    raise BmcUnsupported(f"{http.host}: this Redfish service has no event log")


def _rank(doc: Doc) -> int:
    name = str(doc.get("Id", "")).lower()
    if any(word in name for word in _OTHERS):
        return len(_PREFERRED) + 1
    return next((number for number, word in enumerate(_PREFERRED) if word in name), len(_PREFERRED))


async def read(http: RedfishHttp, holders: list[Doc], since: str | None) -> list[LogRecord]:
    """Entries oldest first; those after `since` when it is still there."""
    log = await service(http, holders)
    path = link(log, "Entries")
    records: list[LogRecord] = []
    if path:
        async for doc in http.members(path):
            records.append(record(doc))
            if len(records) >= MOST_RECORDS:
                break
    records.sort(key=lambda found: (found.time or 0.0, found.id.zfill(12)))
    ids = [found.id for found in records]
    return records[ids.index(since) + 1 :] if since in ids else records


def record(doc: Doc) -> LogRecord:
    """One LogEntry."""
    severity = {"Warning": "warning", "Critical": "critical"}.get(str(doc.get("Severity")), "info")
    return LogRecord(
        str(doc.get("Id", "")),
        when(doc.get("EventTimestamp") or doc.get("Created")),
        str(doc.get("SensorNumber") or ""),
        str(doc.get("SensorType") or doc.get("EntryType") or ""),
        str(doc.get("Message") or doc.get("Name") or ""),
        severity,
        doc.get("EntryCode") != "Deassert",
    )


def when(text: object) -> float | None:
    """ISO 8601 as Unix seconds; None for what is none, and for clocks that were never set."""
    try:
        seconds = datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if seconds > 86400 * 365 * 5 else None


async def clear(http: RedfishHttp, holders: list[Doc]) -> None:
    """LogService.ClearLog."""
    log = await service(http, holders)
    action = (log.get("Actions") or {}).get("#LogService.ClearLog") or {}
    if not action.get("target"):
        raise BmcUnsupported(f"{http.host}: its event log cannot be cleared")
    await http.post(str(action["target"]), {})
