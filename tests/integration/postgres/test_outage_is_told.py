"""A database that goes and comes back: what a server says of it afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fleet_import import pg_cluster
from procrastinate.exceptions import ConnectorException

from baremetal.engine.cluster import Cluster
from baremetal.engine.lease import Outage
from baremetal.store import StoreError, servers

pytestmark = pytest.mark.integration


@pytest.fixture
def database() -> Iterator[Any]:
    """A PostgreSQL that may be stopped."""
    with tempfile.TemporaryDirectory(prefix="baremetal-away-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        running = pg_cluster.Cluster(Path(name) / "pg").create().start()
        yield running
        running.stop()


async def test_a_restart_is_named_with_its_length_and_its_reason(database: Any) -> None:
    one = Cluster(database.url(), name="a", version="0.1.0", site="x")
    store = one.open_store()
    try:
        one.join()
        outages: list[Outage] = []
        one.lease.on_back = outages.append
        await asyncio.to_thread(database.stop)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(database.start)
        async with asyncio.timeout(90):
            while not outages:  # noqa: ASYNC110 (the lease lives in a thread)
                await asyncio.sleep(0.05)
        assert outages[0].what == "PostgreSQL was restarted"
        assert outages[0].why
        assert 1.0 < outages[0].seconds < 90.0
        assert one.lease.held()
    finally:
        one.leave()
        store.close()


async def test_a_database_that_stands_still_moves_no_clock_and_is_told_of(database: Any) -> None:
    """Its host was paused (a snapshot, a hung disk): no connection breaks, one answer takes seven seconds."""
    one = Cluster(database.url(), name="a", version="0.1.0", site="x")
    store = one.open_store()
    try:
        one.join()
        outages: list[Outage] = []
        may_store: list[bool] = []

        def back(outage: Outage) -> None:
            outages.append(outage)
            may_store.append(one.lease.held())

        one.lease.on_back = back
        await asyncio.sleep(1.5)
        with store.engine.connect() as conn:
            asked = sa.text("SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%lease'")
            beating = int(conn.execute(asked).scalar_one())
        os.kill(beating, signal.SIGSTOP)
        await asyncio.sleep(7.0)
        acts = one.lease.held()
        os.kill(beating, signal.SIGCONT)
        drift = 0.0
        async with asyncio.timeout(90):
            while not outages or not one.lease.held():
                drift = max(drift, abs(one.clock.drift_s()))
                await asyncio.sleep(0.005)
        assert not acts
        assert one.lease.held()
        assert drift < 1.0, "half of the pause was taken for a clock that is wrong"
        assert 5.0 < outages[0].seconds < 90.0
        assert may_store == [True], "told when it can be written down"
    finally:
        one.leave()
        store.close()


async def nothing(_node: str) -> float | None:
    return None


async def nobody(_horizon: float) -> list[tuple[str, float]]:
    return []


async def test_who_waits_for_a_database_that_stands_still_hears_of_it(database: Any) -> None:
    """All of PostgreSQL is paused, as when its host is: nothing of ours may hang for as long as that lasts."""
    one = Cluster(database.url(), name="a", version="0.1.0", site="x")
    store = one.open_store()
    try:
        one.join()
        store.read(servers.now)
        made = one.engine(nothing, nobody, one.clock, workers=4, tell=lambda *_: None)
        await made.start()
        await one.listen(lambda nodes, secrets: None, lambda: None)
        assert one._listener is not None
        assert one._listener.connected
        children = (
            await asyncio.to_thread(Path(f"/proc/{database.pid}/task/{database.pid}/children").read_text)
        ).split()
        everything = [database.pid, *map(int, children)]
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)
        asked = asyncio.create_task(made._app.connector.execute_query_all_async("SELECT 1 AS one"))
        try:
            async with asyncio.timeout(90):
                with pytest.raises(StoreError):
                    await store.fetch(servers.now)
                with pytest.raises(StoreError):
                    await store.write(servers.now)
                with pytest.raises(ConnectorException):  # the queue's connections
                    await asked
                while one._listener.connected:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            for pid in everything:
                os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(90):
            while not one.lease.held():  # noqa: ASYNC110 (the lease lives in a thread)
                await asyncio.sleep(0.1)
        assert await store.write(servers.now) > 0
        async with asyncio.timeout(90):
            while not one._listener.connected:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await made.stop()
    finally:
        await one.deaf()
        one.leave()
        store.close()
