"""An answer between the queue and a server is lost: no node waits for ever for a tick that nobody runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from baremetal.engine import jobs, lostticks, shared
from baremetal.engine.cluster import Cluster
from baremetal.engine.listen import Listener
from baremetal.store import StoreError, opened, postgres

pytestmark = pytest.mark.integration


class Rows:
    """Passes that take a while, counted."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.running: set[str] = set()
        self.pause = 0.0

    async def run(self, node: str) -> float | None:
        self.running.add(node)
        await asyncio.sleep(self.pause)
        self.running.discard(node)
        self.runs[node] += 1
        return None

    async def due(self, _horizon: float) -> list[tuple[str, float]]:
        return []


@pytest.fixture
async def engine(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A server's engine, its passes, and a question to its database."""
    monkeypatch.setattr(lostticks, "LOST_S", 1.0)
    cluster, rows = Cluster(database, name="one", version="0.1.0", site="test"), Rows()
    store = cluster.open_store()
    cluster.join()
    made = cluster.engine(rows.run, rows.due, cluster.clock, workers=8, tell=lambda *_: None)
    await made.start()

    def ask(text: str, **values: Any) -> Any:
        with store.engine.begin() as conn:
            return conn.execute(sa.text(text), values).fetchall()

    await until(lambda: made._worker is not None and made._worker.worker_id is not None)
    yield made, rows, ask
    await made.stop()
    cluster.leave()
    store.close()


async def until(test: Callable[[], Any], seconds: float = 90.0) -> None:
    async with asyncio.timeout(seconds):
        while not test():  # noqa: ASYNC110 (plain conditions)
            await asyncio.sleep(0.02)


async def test_we_never_heard_that_a_tick_is_ours(engine: Any) -> None:
    made, rows, ask = engine
    ask(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status, args, worker_id) "
        "VALUES ('any', :task, 'n1', 'doing', '{\"node\": \"n1\", \"at\": 0}', :worker) RETURNING id",
        task=jobs.TASK,
        worker=made._worker.worker_id,
    )
    made.wake("n1")
    await until(lambda: rows.runs["n1"] >= 1)


async def test_the_database_never_heard_that_a_tick_ended(engine: Any) -> None:
    """Its connections are cut while the pass runs, as a firewall does, or a PostgreSQL that restarts."""
    made, rows, ask = engine
    rows.pause = 0.3
    made.wake("n1")
    await until(lambda: "n1" in rows.running)
    ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%ticks'")
    await until(lambda: rows.runs["n1"] == 1)
    made.wake("n1")
    await until(lambda: rows.runs["n1"] >= 2)
    made.wake("n2")
    await until(lambda: rows.runs["n2"] == 1)


async def test_what_could_not_be_shown_after_a_lapse_is_shown_later(engine: Any) -> None:
    """The lease ran out under a pass; when it is back, the database is away once more for a moment."""
    made, rows, _ = engine
    shown: list[bool] = []

    def resumed() -> None:
        shown.append(len(shown) > 0)
        if not shown[-1]:
            raise StoreError("database: it is away again")

    made._resumed = resumed
    rows.pause = 600.0
    made.wake("n1")
    await until(lambda: "n1" in rows.running)
    made._lease._beaten -= 1000
    await until(lambda: shown == [False, True])


async def test_a_gap_in_the_news_that_could_not_be_looked_into_is_looked_into_again(database: str) -> None:
    looked: list[bool] = []

    def missed() -> None:
        looked.append(len(looked) > 0)
        if not looked[-1]:
            raise StoreError("database: it is away again")

    one = Listener(postgres.conninfo(database, "news"), lambda nodes, secrets: None, missed)
    await one.start()
    try:
        await until(lambda: one.connected)
        with opened(database) as store, store.engine.begin() as conn:
            conn.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'news'"
            )
        await until(lambda: looked == [False, True])
    finally:
        await one.stop()


async def test_a_silent_machine_does_not_hold_up_the_end_of_a_server(engine: Any) -> None:
    made, rows, _ = engine
    rows.pause = 600.0
    made.wake("n1")
    await until(lambda: "n1" in rows.running)
    async with asyncio.timeout(4 * (shared.STOP_S + shared.CLOSE_S)):
        await made.stop()
    assert rows.runs["n1"] == 0
