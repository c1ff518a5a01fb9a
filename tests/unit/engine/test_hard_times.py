"""The service goes on through floods and a database that is locked, full or gone; observed from outside, by its API."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from baremetal.api.app import create_app
from baremetal.protocol.plane import Message
from baremetal.store import Store, boots, events


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


async def test_a_flood_of_events_stops_no_deploy_and_loses_none(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    node = bench.node("n1")
    body = {"mac": "52:54:00:00:00:00", "arch": "bios", "loader": "firmware"}
    flood = [Message(f"f{i}", "boot-seen", time.time(), node.id, body) for i in range(4000)]
    before = bench.store.read(events.last_seq)

    async def pour() -> None:
        for at in range(0, len(flood), 200):
            await bench.con.inbox.messages(flood[at : at + 200])

    pouring = asyncio.create_task(pour())
    await bench.ask("n1", "deploy", image="web")
    assert (await api.get("/api/nodes/n1")).status_code == 200
    node = await bench.until("n1", "active")
    assert node.fault is None
    await pouring
    found = {e.id for _, e in bench.store.read(lambda c: events.after(c, before, kind="dhcp", limit=10_000))}
    assert {f"m-f{i}" for i in range(4000)} <= found


async def test_beats_by_the_thousand_are_one_write(bench: Any) -> None:
    await bench.to("n1", "active")
    node, begun = bench.node("n1"), bench.store.read(events.last_seq)
    for second in range(3000):
        at = time.time() + second / 1000
        await bench.con.inbox.messages([Message(f"b{second}", "beat", at, node.id, {"agent": "instance"})])
    await bench.con.inbox.flush_beats()
    live = bench.store.read(lambda c: boots.live(c, node.id))["instance"]
    assert live.last_beat == pytest.approx(at)
    assert bench.store.read(events.last_seq) - begun < 10


async def test_a_locked_database_is_said_and_work_goes_on_after(
    bench: Any, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baremetal.engine.embedded.CRASH_PAUSE_S", 0.05)
    _each_connection(bench.store, lambda: "PRAGMA busy_timeout = 50")  # not ten seconds
    await bench.to("n1", "available")
    thief = sqlite3.connect(bench.path / "test.db", isolation_level=None)
    thief.execute("BEGIN IMMEDIATE")
    try:
        answer = await api.put("/api/nodes/n1/verbs/deploy", json={"image": "web"})
        assert answer.status_code in (500, 503)
        error = answer.json()["error"]
        assert "locked" in error["brief"]
        assert "close it" in error["fix"]
        assert (await api.get("/api/nodes/n1")).json()["state"] == "available", "reading goes on"
    finally:
        thief.execute("ROLLBACK")
        thief.close()
    assert (await api.put("/api/nodes/n1/verbs/deploy", json={"image": "web"})).status_code == 202
    node = await bench.until("n1", "active")
    assert node.fault is None


def _each_connection(opened: Store, pragma: Callable[[], str]) -> None:
    """Say this on every connection that the pool hands out from now on."""
    sa.event.listen(opened.engine, "checkout", lambda raw, *_: raw.execute(pragma()))


async def test_a_full_disk_is_said_and_work_goes_on_after(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    pages = bench.store.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
    full = [pages]
    _each_connection(bench.store, lambda: f"PRAGMA max_page_count = {full[0]}")
    big = {"metadata": {"blob": "x" * 400_000}, "image": "web"}
    answer = await api.put("/api/nodes/n1/verbs/deploy", json=big)
    assert answer.status_code in (500, 503), answer.json()
    assert "full" in answer.json()["error"]["brief"]
    assert "free space" in answer.json()["error"]["fix"]
    full[0] = 1_000_000
    assert (await api.put("/api/nodes/n1/verbs/deploy", json={"image": "web"})).status_code == 202
    assert (await bench.until("n1", "active")).fault is None


async def test_a_database_that_is_gone_and_back(bench: Any, api: httpx.AsyncClient) -> None:
    """The directory moved away (a mount that was lost) and back: open files keep working, nothing is lost."""
    await bench.to("n1", "available")
    away = bench.path.with_name("away")
    bench.path.rename(away)
    try:
        assert (await api.get("/api/nodes/n1")).json()["state"] == "available"
    finally:
        away.rename(bench.path)
    await bench.ask("n1", "deploy", image="web")
    assert (await bench.until("n1", "active")).fault is None
    assert (await api.get("/api/db/check")).json()["ok"]
