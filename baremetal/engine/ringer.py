"""Rings the queue's worker for ticks that should begin here soon.

procrastinate's worker sleeps through a job that is announced while it fetches others, until its next look by
itself. So it is rung again, a few times, until the tick begins or somebody else runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable

AFTER_S = (0.003, 0.012, 0.03, 0.06, 0.12)


class Ringer:
    """`begun(node)` when its tick begins, `ended(node)` when it ends. `running`: nodes whose tick runs now."""

    def __init__(self, ring: Callable[[], None], running: Container[str]) -> None:
        self._ring, self._running = ring, running
        self._asked: dict[str, int] = {}  # how often it was rung for a node
        self._stopped = False

    def ask(self, node_ids: Iterable[str]) -> None:
        """Ticks of these should begin here."""
        for node in node_ids:
            fresh = node not in self._asked
            self._asked[node] = 0
            if fresh:
                self._later(AFTER_S[0], node)

    def begun(self, node: str) -> None:
        """No need to ring for it."""
        self._asked.pop(node, None)

    def ended(self, node: str) -> None:
        """Was another one asked for meanwhile?"""
        if node in self._asked:
            self._later(AFTER_S[0], node)

    def stop(self) -> None:
        """Ring no more."""
        self._stopped = True

    def _later(self, after_s: float, node: str) -> None:
        asyncio.get_running_loop().call_later(after_s, self._again, node)

    def _again(self, node: str) -> None:
        rung = self._asked.get(node)
        if rung is None or self._stopped or node in self._running:  # the next tick waits for this one's end
            return
        if rung >= len(AFTER_S):
            del self._asked[node]  # somebody else runs it, or the worker's own look finds it
            return
        self._ring()
        self._asked[node] = rung + 1
        self._later(AFTER_S[rung], node)
