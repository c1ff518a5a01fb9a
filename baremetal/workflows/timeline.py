"""A node's events as stages with a beginning, an end and an outcome. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from baremetal.lifecycle import STEERING, Verb
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node

# Kinds that are a point in time worth a line, with the words for it.
POINTS = {
    Kind.DHCP: "DHCP",
    Kind.LOADER: "boot loader",
    Kind.SCRIPT: "boot script",
    Kind.KERNEL: "kernel, ramdisk",
    Kind.HELLO: "hello",
    Kind.INVENTORY: "inventory",
    Kind.CONFIG: "configured",
    Kind.METADATA: "metadata",
    Kind.POWER: "power",
    Kind.BMC: "BMC",
    Kind.VERB: "asked",
    Kind.FAULT: "fault",
    Kind.SECURITY: "alarm",
    Kind.CONSOLE: "console",
    Kind.SERVER: "server",
}


@dataclass(frozen=True)
class Stage:
    """One line of the timeline. Times are Unix seconds; `end` is None while it runs."""

    stage: str
    kind: str
    start: float
    end: float | None
    seconds: float | None
    outcome: str
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return asdict(self)


def of_events(
    events: Sequence[Event], node: Node | None, now: float, progress: dict[str, Any] | None = None
) -> list[Stage]:
    """Steps and states as bars, everything else as points with the time it took, in order of their beginning,
    and of those that begin together, in the order in which they were noted.

    `progress`: how far the agent is with its order; it stands beside the step that runs.
    """
    bars = _bars(events, node, now)
    if progress:
        bars = [replace(b, detail=far(progress)) if b.outcome == "running" else b for b in bars]
    told = {(str(e.kind), e.stage, e.time): at for at, e in reversed(list(enumerate(events)))}
    found = [(bar, told[bar.kind, bar.stage, bar.start]) for bar in bars]
    found += [(_point(e), at) for at, e in enumerate(events) if e.kind in POINTS and not _dull(e)]
    return [stage for stage, _ in sorted(found, key=lambda pair: (pair[0].start, pair[1]))]


def far(progress: dict[str, Any]) -> str:
    """An agent's progress in words: "write 230 of 516 MiB, 28 MiB/s"."""
    stage, done, total = progress.get("stage", ""), progress.get("done") or 0, progress.get("total") or 0
    rate, unit = progress.get("rate"), str(progress.get("unit", ""))
    if unit == "bytes":
        done, total, unit = done >> 20, total >> 20, "MiB"
        rate = round(rate / 2**20, 1) if rate is not None else None
    amount = f"{done} of {total} {unit}" if total else ""
    speed = f"{rate:g} {unit}/s" if rate else ""
    return ", ".join(part for part in (f"{stage} {amount}".strip(), speed) if part)


def _bars(events: Sequence[Event], node: Node | None, now: float) -> list[Stage]:
    bars: list[Stage] = []
    state: Event | None = None
    begun: dict[str, Event] = {}
    for e in events:
        if e.kind is Kind.STATE:
            _close(bars, begun, e.time, "left")
            if state:
                bars.append(_bar(state, e.time, "ok"))
            state = e
        elif e.kind is Kind.STEP and e.outcome == "begin":
            begun[e.stage] = e
        elif e.kind is Kind.STEP and e.stage in begun:
            bars.append(_bar(begun.pop(e.stage), e.time, e.outcome, str(e.data.get("because", ""))))
        elif e.kind is Kind.FAULT and e.outcome == "failed":
            _close(bars, begun, e.time, "failed", str(e.data.get("brief", "")))
    running = node is not None and node.wanted is not None
    _close(bars, begun, None if running else now, "running" if running else "left")
    if state:
        bars.append(_bar(state, None, "now", now=now))
    return bars


def _close(bars: list[Stage], begun: dict[str, Event], at: float | None, outcome: str, detail: str = "") -> None:
    for e in begun.values():
        bars.append(_bar(e, at, outcome, detail))
    begun.clear()


def _bar(e: Event, end: float | None, outcome: str, detail: str = "", now: float | None = None) -> Stage:
    until = end if end is not None else now
    seconds = round(until - e.time, 3) if until is not None else None
    return Stage(e.stage, str(e.kind), e.time, end, seconds, outcome, detail)


def _point(e: Event) -> Stage:
    spent = e.duration_ms / 1000 if e.duration_ms is not None else 0.0
    words = f"{POINTS[e.kind]} {e.stage}".strip()
    detail = str(e.data.get("brief") or e.data.get("because") or e.data.get("why") or "")
    start = e.time - spent if e.kind in (Kind.LOADER, Kind.KERNEL, Kind.BMC) else e.time
    return Stage(words, str(e.kind), start, e.time, round(spent, 3), e.outcome, detail)


def _dull(e: Event) -> bool:
    """Points that only repeat what a bar says."""
    return e.kind is Kind.BMC and e.outcome == "ok" and e.stage == "identity"


# What begins a run; steering it, flags, power and confirmations are within it.
BEGINS = {"enroll"} | {str(verb) for verb in Verb if verb not in STEERING}


def current_run(events: Sequence[Event]) -> list[Event]:
    """From the last verb on: what an operator means by "the timeline"."""
    for i in range(len(events) - 1, -1, -1):
        if events[i].kind is Kind.VERB and events[i].stage in BEGINS:
            return list(events[i:])
    return list(events)
