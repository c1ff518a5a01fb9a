"""Counters and histograms for /metrics, counted from events as they are stored and from talks with BMCs. Pure.

A counter begins at zero with the server, as Prometheus expects.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from baremetal.model.event import Event, Kind

Labels = tuple[tuple[str, str], ...]
# Seconds.
STAGE_BUCKETS = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
CALL_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
LABELS_MOST = 200  # different label sets of one counter; what comes beyond is counted as "other"
# Kinds that are stages of a network boot, and which fact of theirs says why.
BOOT = {Kind.DHCP: "decision", Kind.LOADER: "via", Kind.SCRIPT: "purpose", Kind.KERNEL: "via", Kind.HELLO: "agent"}


@dataclass
class Histogram:
    """Cumulative buckets as Prometheus wants them."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    number: int = 0

    def add(self, value: float) -> None:
        """One observation."""
        if not self.counts:
            self.counts = [0] * len(self.bounds)
        at = bisect_left(self.bounds, value)
        if at < len(self.counts):
            self.counts[at] += 1
        self.total += value
        self.number += 1


class Tally:
    """What was counted since the server started."""

    def __init__(self) -> None:
        self.seq: int | None = None  # the last event counted
        self.events: Counter[Labels] = Counter()
        self.boots: Counter[Labels] = Counter()
        self.faults: Counter[Labels] = Counter()
        self.stages: dict[Labels, Histogram] = {}
        self.calls: dict[Labels, Histogram] = {}
        self.webhooks: Counter[Labels] = Counter()
        self.lock = threading.Lock()  # scrapes run in threads

    def event(self, event: Event) -> None:
        """Count one event."""
        _count(self.events, kind=str(event.kind), outcome=event.outcome)
        if event.kind in BOOT:
            why = str(event.data.get(BOOT[event.kind]) or event.outcome)
            _count(self.boots, stage=str(event.kind), reason=why[:40])
        if event.kind is Kind.FAULT:
            _count(self.faults, code=event.fault_code or event.stage or "unknown")
        if event.kind is Kind.STATE and event.duration_ms is not None:
            left = (("state", str(event.data.get("from", "?"))),)
            self.stages.setdefault(left, Histogram(STAGE_BUCKETS)).add(event.duration_ms / 1000)

    def call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count one talk with a BMC."""
        labels = (("operation", operation), ("outcome", outcome))
        if labels in self.calls or len(self.calls) < LABELS_MOST:
            self.calls.setdefault(labels, Histogram(CALL_BUCKETS)).add(seconds)


def _count(counter: Counter[Labels], **labels: str) -> None:
    key = tuple(labels.items())
    if key not in counter and len(counter) >= LABELS_MOST:
        key = tuple((name, "other") for name in labels)
    counter[key] += 1
