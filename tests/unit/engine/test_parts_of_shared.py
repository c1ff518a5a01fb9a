"""Timers, rings and lost ticks of the engine for several servers; no database, no clock."""

from __future__ import annotations

import asyncio

from baremetal.engine.lostticks import LOST_S, LostTicks
from baremetal.engine.ringer import AFTER_S, Ringer
from baremetal.engine.timers import Timers


def test_the_earliest_time_of_a_node_counts_and_comes_once() -> None:
    timers = Timers()
    assert [timers.set("a", 9.0), timers.set("a", 5.0), timers.set("a", 7.0), timers.set("b", 6.0)] == [
        True, True, False, True,
    ]  # fmt: skip
    assert (len(timers), timers.left_s(4.0), timers.due(4.0)) == (2, 1.0, [])
    assert timers.due(8.0) == [("a", 5.0), ("b", 6.0)]
    assert (timers.due(99.0), timers.left_s(99.0), len(timers)) == ([], None, 0)


def test_a_node_whose_tick_begins_is_not_due_any_more() -> None:
    timers = Timers()
    timers.set("a", 5.0)
    timers.drop("a")
    assert (timers.left_s(0.0), timers.due(9.0)) == (None, [])
    assert timers.set("a", 6.0)
    assert timers.due(9.0) == [("a", 6.0)]


def test_a_tick_is_lost_when_it_was_not_run_for_long() -> None:
    lost = LostTicks()
    assert lost.look([1, 2], {2}, 0.0) == []
    assert lost.look([1, 2], {2}, LOST_S + 1) == [1]
    assert lost.look([1, 2], {1, 2}, LOST_S + 2) == [], "it runs after all"
    assert lost.look([1, 2], {2}, 3 * LOST_S) == [], "and is counted from the beginning"


async def rings(*, begins_after: int, expected: int) -> int:
    """How often it rings for a tick that begins after so many."""
    told: list[str] = []
    running: set[str] = set()

    def ring() -> None:
        told.append("ring")
        if len(told) == begins_after:
            running.add("a")
            ringer.begun("a")

    ringer = Ringer(ring, running)
    ringer.ask(["a"])
    ringer.ask(["a"])
    async with asyncio.timeout(60):
        while len(told) < expected:  # noqa: ASYNC110 (it is to be rung by time)
            await asyncio.sleep(0.01)
    await asyncio.sleep(2 * AFTER_S[-1])
    return len(told)


async def test_it_is_rung_until_the_tick_begins_and_not_for_ever() -> None:
    assert await rings(begins_after=2, expected=2) == 2
    assert await rings(begins_after=99, expected=len(AFTER_S)) == len(AFTER_S)
