"""Facts about the server itself, as events."""

from __future__ import annotations

from typing import Any

from baremetal.model.event import Event, Kind
from baremetal.workflows import ids


def server_event(now: float, stage: str, outcome: str = "ok", **data: Any) -> Event:
    """A fact about the server itself."""
    return Event(ids.ulid(now), now, None, Kind.SERVER, stage, "control", outcome, data=data)
