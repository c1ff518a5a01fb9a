"""Watches BMCs of nodes at rest: audits them once, reads sensors and event log at a modest pace, tells of changes.

A sensor that leaves or returns to "ok" and a new record of the event log are
events; readings stay in memory for whoever asks. A node somebody works on is left
alone, and so is a BMC that is known to be silent: it costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

from baremetal.bmc.base import LogRecord, Reading
from baremetal.bmc.faults import BmcError, BmcUnsupported
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, State
from baremetal.store import StoreError, events, nodes
from baremetal.workflows import ids
from baremetal.workflows.passes import World
from baremetal.workflows.powersync import _at_rest

log = logging.getLogger(__name__)

LOOK_S = 5.0  # how often the list of nodes is looked through, up to 200 of them; more nodes, less often
NODES_A_SECOND = 40
SPREAD = 0.8  # share of the time until the next round over which this round's looks are begun
WITHOUT_POLL_S = 3600.0  # sensors are not wanted: only audits, looked for so rarely
LONGEST_S = 3600.0  # between two tries of a BMC that does not answer
MOST_RECORDS = 50  # events made of one reading of the log
ALARMS = ("warning", "critical")


@dataclass
class Health:
    """What is known of one BMC. `read_at` is Unix seconds, `due` and `misses` are the watcher's own."""

    readings: tuple[Reading, ...] = ()
    read_at: float = 0.0
    up: bool = True
    misses: int = 0
    due: float = 0.0
    unsupported: set[str] = field(default_factory=set)


class BmcHealth:
    """One watcher for all nodes. `known` holds the last readings by node id."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.known: dict[str, Health] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            begun, count = time.monotonic(), 0
            try:
                count = await self.once(spread=SPREAD)
            except StoreError as exc:
                log.warning("looking at the BMCs waits: %s", exc.brief)
            except Exception:
                log.exception("looking at the BMCs failed; again soon")
            await asyncio.sleep(max(LOOK_S / 2, begun + _round_s(count) * random.uniform(0.8, 1.2) - time.monotonic()))

    async def once(self, *, all_due: bool = False, spread: float = 0.0) -> int:
        """One round over the nodes that are due; how many nodes there are.

        `all_due`: every one is. `spread`: over which share of the time until the next round looks are begun, so
        that ten thousand BMCs are no burst.
        """
        present, found = await self._world.store.fetch(lambda c: (set(nodes.ids(c)), nodes.resting(c)))
        mine = await asyncio.to_thread(self._world.share)
        for gone in set(self.known) - present:
            del self.known[gone]
        now = time.monotonic()
        due = [
            node for node in found if _watched(node) and mine(node.id) and (all_due or self._of(node, now).due <= now)
        ]
        gate = asyncio.Semaphore(self._world.policy.sensor_poll_workers)
        apart_s = spread * _round_s(len(present)) / max(len(due), 1)

        async def guarded(turn: int, node: Node) -> None:
            await asyncio.sleep(turn * apart_s)
            async with gate:
                fresh = await self._world.store.fetch(lambda c: nodes.find(c, node.id)) if spread else node
                if fresh and _watched(fresh):
                    await self._look(fresh)

        await asyncio.gather(*(guarded(turn, node) for turn, node in enumerate(due)))
        return len(present)

    def _of(self, node: Node, now: float) -> Health:
        """A node seen for the first time is read at a random moment of its first period; audited at once."""
        known = self.known.get(node.id)
        if known is None:
            first = now if self._wants_audit(node) else now + random.uniform(0.0, self._period())
            known = self.known[node.id] = Health(due=first)
        elif known.due > now and not known.misses and self._wants_audit(node):
            known.due = now
        return known

    def _period(self) -> float:
        return self._world.policy.sensor_poll_s or WITHOUT_POLL_S

    def _wants_audit(self, node: Node) -> bool:
        known = self.known.get(node.id)
        without = known is not None and "audit" in known.unsupported
        return self._world.policy.audit_bmcs and not without and "audit" not in notes_of(node)

    async def _look(self, node: Node) -> None:
        known = self._of(node, time.monotonic())
        self._world.may()
        try:
            if self._wants_audit(node):
                with contextlib.suppress(BmcUnsupported):
                    await self.audit(node)
            if self._world.policy.sensor_poll_s:
                await self._sensors(node, known)
                await self._log(node, known)
            known.up, known.misses = True, 0
        except BmcError as exc:
            known.up, known.misses = False, known.misses + 1
            log.info("%s: sensors not read: %s", node.name, exc.brief)
        except Exception:  # a bug about one BMC must not leave the others unwatched
            known.misses += 1
            log.exception("%s: looking at its BMC failed", node.name)
        pause = min(self._period() * 2 ** min(known.misses, 6), max(LONGEST_S, self._period()))
        known.due = time.monotonic() + pause * random.uniform(0.9, 1.1)

    async def audit(self, node: Node, factory: Sequence[tuple[str, str]] = (), by: str = "") -> dict[str, Any]:
        """Audit this BMC now; the findings, kept with the node and told as an event."""
        known = self.known.setdefault(node.id, Health())
        ask = getattr(self._world.driver(node), "optional", None)
        try:
            if ask is None:
                raise BmcUnsupported(f"{node.name}: this kind of BMC is not audited")
            doc = await ask("audit", factory=[list(pair) for pair in factory])
        except BmcUnsupported:
            known.unsupported.add("audit")
            raise
        now = self._world.now()
        kept = {"at": round(now), "worst": doc["worst"], "checks": [one["check"] for one in doc["findings"]]}
        grave = [one for one in doc["findings"] if one["severity"] in ("critical", "high")]
        told = self._event(
            node,
            Kind.SECURITY if grave else Kind.BMC,
            "bmc-audit",
            "alarm" if grave else "ok",
            {
                "worst": doc["worst"],
                "because": "; ".join(one["what"] for one in grave)[:1500] or f"{len(doc['findings'])} remarks",
                **({"by": by} if by else {}),
            },
        )
        await self._keep(node, [told], audit=kept)
        return dict(doc)

    async def _sensors(self, node: Node, known: Health) -> None:
        if "sensors" in known.unsupported:
            return
        try:
            readings = tuple(await self._world.driver(node).sensors())
        except BmcUnsupported:
            known.unsupported.add("sensors")
            return
        await self.seen(node, readings)

    async def seen(self, node: Node, readings: Sequence[Reading]) -> None:
        """Keep readings, and tell of sensors whose state changed."""
        known = self.known.setdefault(node.id, Health())
        known.readings, known.read_at, known.up = tuple(readings), self._world.now(), True
        before: dict[str, str] = notes_of(node).get("alarms") or {}
        after = alarms(readings, before)
        if after == before:
            return
        by_name = {reading.name: reading for reading in readings}
        told = [
            self._event(
                node,
                Kind.BMC,
                "sensor",
                "alarm" if name in after else "ok",
                _facts(name, by_name.get(name), before, after),
            )
            for name in sorted(before | after)
            if before.get(name) != after.get(name)
        ]
        await self._keep(node, told, alarms=after)

    async def _log(self, node: Node, known: Health) -> None:
        """New records of the event log; at the first look only where it ends is noted."""
        if "log" in known.unsupported:
            return
        last = notes_of(node).get("log_id")
        try:
            records = list(await self._world.driver(node).events(last or None))
        except BmcUnsupported:
            known.unsupported.add("log")
            return
        if not records and last is not None:
            return
        fresh = records[-MOST_RECORDS:] if last is not None else []
        told = [self._event(node, Kind.BMC, "log", outcome_of(record), record_facts(record)) for record in fresh]
        await self._keep(node, told, log_id=records[-1].id if records else "")

    def _event(self, node: Node, kind: Kind, stage: str, outcome: str, data: dict[str, Any]) -> Event:
        now = self._world.now()
        return Event(ids.ulid(now), now, node.id, kind, stage, "bmc", outcome, data=data)

    async def _keep(self, node: Node, told: list[Event], **notes: Any) -> None:
        """Beside the BMC's facts in the node's properties; plain observations, no pass needs to hear of them."""

        def write(conn: Connection) -> None:
            now_there = nodes.find(conn, node.id)
            if now_there is None:
                return
            kept = {**(now_there.properties.get("bmc") or {}), **notes}
            nodes.see(conn, node.id, properties={**now_there.properties, "bmc": kept})
            events.add_all(conn, told)

        await self._world.store.write(write)


def _watched(node: Node) -> bool:
    """At rest, known to its BMC, and not known to be silent."""
    silent = node.fault is not None and node.fault.code.startswith("bmc-")
    return _at_rest(node) and not silent and not node.maintenance and node.state is not State.ENROLL


def _round_s(count: int) -> float:
    """From one round to the next, seconds, where there are so many nodes."""
    return max(LOOK_S, count / NODES_A_SECOND)


def notes_of(node: Node) -> dict[str, Any]:
    """What verifying and watching noted about the node's BMC."""
    found = node.properties.get("bmc")
    return found if isinstance(found, dict) else {}


def alarms(readings: Sequence[Reading], before: dict[str, str]) -> dict[str, str]:
    """Sensors that are not well, by name. One without a reading keeps its alarm, an absent one has none. Pure."""
    found = {reading.name: reading.state for reading in readings if reading.state in ALARMS}
    unread = {reading.name for reading in readings if reading.state == "unknown"}
    return {**{name: state for name, state in before.items() if name in unread}, **found}


def _facts(name: str, reading: Reading | None, before: dict[str, str], after: dict[str, str]) -> dict[str, Any]:
    """A sensor's change in words; `because` is what the timeline shows."""
    state, was = after.get(name, "ok"), before.get(name, "ok")
    shown = "" if reading is None or reading.value is None else f" at {reading.value:g} {reading.unit}".rstrip()
    limits = "" if reading is None else limits_text(reading)
    words = "" if reading is None else ", ".join(reading.discrete)
    doc = {
        "sensor": name,
        "state": state,
        "was": was,
        "because": f"{name} is {state}{shown}{limits or (words and f' ({words})')}",
    }
    if reading is not None and reading.value is not None:
        doc |= {"value": reading.value, "unit": reading.unit}  # type: ignore[dict-item]
    return doc


def limits_text(reading: Reading) -> str:
    """The limit that was crossed, as ` (limit 95)`; empty when none was."""
    if reading.value is None:
        return ""
    crossed = [
        limit
        for name, limit in reading.thresholds.items()
        if (name.startswith("upper") and reading.value >= limit)
        or (name.startswith("lower") and reading.value <= limit)
    ]
    return f" (limit {max(crossed, key=lambda limit: abs(limit)):g})" if crossed else ""


def outcome_of(record: LogRecord) -> str:
    """ "alarm" for what is grave and comes, "ok" for the rest."""
    return "alarm" if record.asserted and record.severity in ALARMS else "ok"


def record_facts(record: LogRecord) -> dict[str, Any]:
    """A record as an event's data; `at` is the BMC's own clock."""
    went = "" if record.asserted else " (over)"
    doc: dict[str, Any] = {"because": f"{record.kind or record.sensor}: {record.event}{went}"[:300], "id": record.id}
    return doc | {"severity": record.severity, "sensor": record.sensor, "at": record.time}
