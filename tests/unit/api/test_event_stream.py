"""Who follows events hears of each at once, also of one that is stored while others are looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from baremetal.api.native import events as stream
from baremetal.store import events
from baremetal.workflows.bell import Bell
from baremetal.workflows.serverevent import server_event


async def test_a_ring_before_the_wait_is_not_missed() -> None:
    bell = Bell()
    since = bell.count
    bell.ring()
    assert await bell.wait(600, since)
    assert not await bell.wait(0, bell.count)


async def test_what_is_stored_during_the_look_is_told_at_once(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEEPALIVE_S", 600.0)
    honest, left = bench.store.fetch, [True]

    async def fetch(query: Callable[[Any], Any]) -> Any:
        found = await honest(query)
        if left:
            left.clear()
            await bench.con.write(lambda c: events.add_all(c, [server_event(bench.con.clock.now(), "test")]))
        return found

    async def here() -> bool:
        return False

    begun = bench.store.read(events.last_seq)
    monkeypatch.setattr(bench.store, "fetch", fetch)
    request: Any = SimpleNamespace(is_disconnected=here)
    following: Any = stream._follow(bench.con, request, None, begun)
    assert await anext(following) == ": watching\n\n"
    async with asyncio.timeout(90):
        assert "event: server" in await anext(following)
    await following.aclose()
