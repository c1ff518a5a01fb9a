"""What the engine promises: soon after due, one at a time, again when woken meanwhile, crash-safe, clean stop."""

from __future__ import annotations

import asyncio
from collections import Counter

from baremetal.engine import Clock, EmbeddedEngine


class Rows:
    """Due times as a store keeps them, and a pass that notes what happens."""

    def __init__(self) -> None:
        self.due: dict[str, float] = {}
        self.runs: Counter[str] = Counter()
        self.now_running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []
        self.pause = 0.0
        self.fail = 0

    async def run(self, node: str) -> float | None:
        self.now_running[node] += 1
        self.most[node] = max(self.most[node], self.now_running[node])
        self.order.append(node)
        self.due.pop(node, None)
        await asyncio.sleep(self.pause)
        self.now_running[node] -= 1
        self.runs[node] += 1
        if self.fail:
            self.fail -= 1
            raise RuntimeError("a bug")
        return None

    async def look(self, horizon: float) -> list[tuple[str, float]]:
        return [(n, at) for n, at in self.due.items() if at <= horizon]


async def until(test, timeout_s: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(timeout_s):
        while not test():  # noqa: ASYNC110 (plain conditions, no event to wait for)
            await asyncio.sleep(0.005)


async def test_what_the_store_says_is_due_runs_without_being_woken() -> None:
    rows, clock = Rows(), Clock()
    rows.due = {"a": clock.now() - 5, "b": clock.now() + 0.1}
    engine = EmbeddedEngine(rows.run, rows.look, clock, sweep_s=0.05)
    await engine.start()
    await until(lambda: rows.runs == {"a": 1, "b": 1})
    rows.due["c"] = clock.now()  # a wake-up that was lost
    await until(lambda: rows.runs["c"] == 1)
    await engine.stop()


async def test_one_pass_at_a_time_and_once_more_when_woken_meanwhile() -> None:
    rows = Rows()
    rows.pause = 0.03
    engine = EmbeddedEngine(rows.run, rows.look, Clock())
    await engine.start()
    engine.wake("a")
    await until(lambda: rows.now_running["a"] == 1)
    for _ in range(10):
        engine.wake("a")
        engine.wake("a", urgent=True)
    await until(lambda: rows.runs["a"] == 2)
    await asyncio.sleep(0.08)
    assert (rows.runs["a"], rows.most["a"]) == (2, 1)
    await engine.stop()


async def test_urgent_ones_go_first() -> None:
    rows = Rows()
    rows.pause = 0.02
    engine = EmbeddedEngine(rows.run, rows.look, Clock(), workers=1)
    await engine.start()
    for i in range(20):
        engine.wake(f"n{i}")
    await until(lambda: rows.order != [])
    engine.wake("n19", urgent=True)
    await until(lambda: rows.runs["n19"] == 1)
    assert rows.order.index("n19") <= 2
    await engine.stop()


async def test_a_pass_that_raises_loses_no_node(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("baremetal.engine.embedded.CRASH_PAUSE_S", 0.02)
    rows = Rows()
    rows.fail = 2
    engine = EmbeddedEngine(rows.run, rows.look, Clock())
    await engine.start()
    engine.wake("a")
    await until(lambda: rows.runs["a"] == 3)
    assert engine.stats().crashes == 2
    await engine.stop()


async def test_stop_waits_for_running_passes_and_begins_none() -> None:
    rows = Rows()
    rows.pause = 0.05
    engine = EmbeddedEngine(rows.run, rows.look, Clock(), workers=1)
    await engine.start()
    engine.wake("a")
    engine.wake("b")
    await until(lambda: rows.now_running["a"] == 1)
    await engine.stop()
    assert rows.runs == {"a": 1}


def test_the_clock_does_not_jump_with_the_wall() -> None:
    wall, steady = [1000.0], [0.0]
    clock = Clock(lambda: wall[0], lambda: steady[0])
    wall[0], steady[0] = 1010.0, 10.0
    assert (clock.now(), clock.jumped()) == (1010.0, False)
    wall[0] = 4610.0
    assert (clock.now(), clock.jumped()) == (1010.0, True)
    assert clock.rebase() == 3600.0
    assert (clock.now(), clock.jumped()) == (4610.0, False)
