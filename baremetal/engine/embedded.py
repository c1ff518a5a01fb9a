"""The engine of a single server: a due-queue on the event loop.

Nothing in here matters when it is lost: due times live in the node rows, a
sweep reads them every few seconds, and a start reads them all. A node runs one
pass at a time; a wake-up during its pass makes it run once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections import deque

from baremetal.engine.clock import Clock
from baremetal.engine.port import Due, EngineStats, Run

log = logging.getLogger(__name__)

SWEEP_S = 5.0
PASS_S = 300.0  # no pass takes that long: BMC calls have their own deadlines, far shorter
STOP_S = 0.25  # what running passes get when the server stops: enough to store, not to wait for a silent BMC
CRASH_PAUSE_S = 10.0  # a pass that raised (a bug) is tried again after this


class EmbeddedEngine:
    """Runs passes on this loop, at most `workers` at once."""

    def __init__(self, run: Run, due: Due, clock: Clock, *, workers: int = 64, sweep_s: float = SWEEP_S) -> None:
        self._run, self._due, self._clock = run, due, clock
        self._workers, self._sweep_s = workers, sweep_s
        self._heap: list[tuple[float, str]] = []
        self._at: dict[str, float] = {}  # the valid due time of a node; other heap entries are stale
        self._urgent: dict[str, float] = {}  # an agent waits for the answer: first come, first served
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, float] = {}
        self._hurry: set[str] = set()  # an agent reported while the pass ran: first come, first served after it
        self._changed = asyncio.Event()
        self._main: list[asyncio.Task[None]] = []
        self._stopping = False
        self._passes = 0
        self._crashes = 0
        self._late: deque[float] = deque(maxlen=2000)

    def wake(self, node_id: str, at: float | None = None, *, urgent: bool = False) -> None:
        """Due at `at` (Unix seconds), or now; an earlier due time stays. Urgent ones go before all others."""
        at = self._clock.now() if at is None else at
        if node_id in self._running:
            self._again[node_id] = min(at, self._again.get(node_id, at))
            if urgent:
                self._hurry.add(node_id)
            return
        if urgent:
            self._at.pop(node_id, None)
            self._urgent.setdefault(node_id, at)
            self._changed.set()
            return
        if node_id in self._urgent:
            return
        if at < self._at.get(node_id, float("inf")):
            self._at[node_id] = at
            heapq.heappush(self._heap, (at, node_id))
            self._changed.set()

    async def start(self) -> None:
        """Take what is due from the store and begin."""
        await self._sweep()
        self._main = [
            asyncio.create_task(self._dispatch(), name="engine"),
            asyncio.create_task(self._sweeps(), name="engine-sweep"),
        ]

    async def stop(self) -> None:
        """Start nothing new; let running passes store what they have, and cut those that ask a BMC."""
        self._stopping = True
        for task in self._main:
            task.cancel()
        await asyncio.gather(*self._main, return_exceptions=True)
        running = list(self._running.values())
        if running:
            _, late = await asyncio.wait(running, timeout=STOP_S)
            for task in late:  # passes are safe to cut: the next server repeats at most one harmless effect
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def stats(self) -> EngineStats:
        """Queue length, passes so far, delays."""
        return EngineStats(
            len(self._at) + len(self._urgent), len(self._running), self._passes, self._crashes, tuple(self._late)
        )

    # -- inside ------------------------------------------------------------

    async def _dispatch(self) -> None:
        while True:
            self._changed.clear()
            wait = self._start_due()
            with contextlib.suppress(TimeoutError):  # not wait_for: before 3.12 it can swallow a cancellation
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _start_due(self) -> float | None:
        """Start what is due and has a free worker; seconds until the next is due."""
        while self._urgent and len(self._running) < 2 * self._workers:
            node_id = next(iter(self._urgent))
            self._begin(node_id, self._clock.now() - self._urgent.pop(node_id))
        while self._heap:
            at, node_id = self._heap[0]
            if self._at.get(node_id) != at:
                heapq.heappop(self._heap)  # stale
                continue
            late = self._clock.now() - at
            if late < 0:
                return min(-late, self._sweep_s)
            if len(self._running) >= self._workers:
                return None  # the end of a pass wakes us
            heapq.heappop(self._heap)
            del self._at[node_id]
            self._begin(node_id, late)
        return None

    def _begin(self, node_id: str, late: float) -> None:
        self._late.append(late)
        self._running[node_id] = asyncio.create_task(self._one(node_id), name=f"pass-{node_id}")

    async def _one(self, node_id: str) -> None:
        next_at: float | None
        try:
            async with asyncio.timeout(PASS_S):
                next_at = await self._run(node_id)
            self._passes += 1
        except Exception:
            # A bug in a pass must not lose the node, nor spin.
            log.exception("pass over node %s crashed; again in %.0f s", node_id, CRASH_PAUSE_S)
            self._crashes += 1
            next_at = self._clock.now() + CRASH_PAUSE_S
            self._again.pop(node_id, None)
        finally:
            self._running.pop(node_id, None)
            self._changed.set()
        if self._stopping:
            return
        again = self._again.pop(node_id, None)
        if node_id in self._hurry:
            self._hurry.discard(node_id)
            self.wake(node_id, again, urgent=True)
            return
        times = [t for t in (next_at, again) if t is not None]
        if times:
            self.wake(node_id, min(times))

    async def _sweeps(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            try:
                await self._sweep()
            except Exception:
                log.exception("sweep failed; again in %.0f s", self._sweep_s)

    async def _sweep(self) -> None:
        """Due nodes of the store that nobody told us about."""
        for node_id, at in await self._due(self._clock.now() + 2 * self._sweep_s):
            if node_id not in self._running:
                self.wake(node_id, at)
