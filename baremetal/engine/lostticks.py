"""Ticks that the database takes for ours and that nobody runs: an answer was lost on the way.

Either we never heard that we were given it, or the database never heard that it ended. Its node's lock would hold
up every later tick for as long as this server lives.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

LOST_S = 8.0  # longer than any answer takes


class LostTicks:
    """Remembers since when (any steady clock, seconds) each of them is not run."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def look(self, ours: Iterable[int], run: Container[int], now: float) -> list[int]:
        """Of the jobs that are ours in the database: those that are lost."""
        self._since = {job: self._since.get(job, now) for job in ours if job not in run}
        return [job for job, since in self._since.items() if now - since > LOST_S]
