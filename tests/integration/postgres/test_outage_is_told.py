"""A database that goes and comes back: what a server says of it afterwards."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_import import pg_cluster

from baremetal.engine.cluster import Cluster
from baremetal.engine.lease import Outage

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
        for _ in range(200):
            if outages:
                break
            await asyncio.sleep(0.05)
        assert outages
        assert outages[0].what == "PostgreSQL was restarted"
        assert outages[0].why
        assert 1.0 < outages[0].seconds < 30.0
        assert one.lease.held()
    finally:
        one.leave()
        store.close()
