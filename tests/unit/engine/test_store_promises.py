"""What the store promises: fences, one failing write takes no other with it, sealed text stays in its place."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from baremetal.errors import MachineError, Refused
from baremetal.model.event import Event, Kind
from baremetal.model.fault import Fault
from baremetal.model.node import Node, State, Wait
from baremetal.secrets import Secret
from baremetal.store import Fenced, Store, StoreError, events, nodes, opened, orders, ports, schema, secrets, tables
from baremetal.store.seal import SealBroken, Sealer


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with opened(f"sqlite:///{tmp_path}/s.db") as one:
        yield one


FULL = Node(
    "id1",
    "n1",
    state=State.DEPLOYING,
    wanted="deploy",
    wanted_args={"image": "x"},
    wait=Wait("because", 2.0, 1.0),
    fault=Fault("code", "brief", evidence={"a": 1}),
    traits=("T1", "T2"),
    labels={"a": "b"},
    work={"steps": [{"name": "s"}]},
    wake_at=5.0,
)


def test_a_node_comes_back_as_it_was(store: Store) -> None:
    store.write_sync(lambda c: nodes.insert(c, FULL))
    assert store.read(lambda c: nodes.get(c, "n1")) == FULL
    assert store.read(lambda c: nodes.get(c, "id1")) == FULL


def test_a_late_save_is_fenced_and_changes_nothing(store: Store) -> None:
    store.write_sync(lambda c: nodes.insert(c, FULL))
    store.write_sync(lambda c: nodes.save(c, FULL, dataclasses.replace(FULL, step="a"), 9.0))
    with pytest.raises(Fenced):
        store.write_sync(lambda c: nodes.save(c, FULL, dataclasses.replace(FULL, step="b"), 9.0))
    assert store.read(lambda c: nodes.get(c, "n1")).step == "a"


def test_evidence_during_a_pass_makes_the_node_due_at_once(store: Store) -> None:
    store.write_sync(lambda c: nodes.insert(c, FULL))
    store.write_sync(lambda c: nodes.note(c, "id1", 7.0, config={"outcome": "applied"}))
    saved = dataclasses.replace(FULL, wake_at=1000.0)
    store.write_sync(lambda c: nodes.save(c, FULL, saved, 9.0))
    node = store.read(lambda c: nodes.get(c, "n1"))
    assert (node.wake_at, node.config) == (9.0, {"outcome": "applied"})


def test_one_failing_write_takes_no_other_with_it(store: Store) -> None:
    """They are handed in together, so that they share a commit."""
    gate = store.submit(lambda c: __import__("time").sleep(0.2))
    good = [store.submit(lambda c, i=i: nodes.insert(c, Node(f"i{i}", f"x{i}"))) for i in range(5)]
    bad: Future[Any] = store.submit(lambda c: nodes.insert(c, Node("other", "x1")))
    more = store.submit(lambda c: nodes.insert(c, Node("i9", "x9")))
    gate.result()
    with pytest.raises(Refused):
        bad.result()
    for future in [*good, more]:
        future.result()
    assert len(store.read(nodes.ids)) == 6


def test_who_gave_a_write_up_stops_no_other(store: Store) -> None:
    gate = threading.Event()
    first = store.submit(lambda c: gate.wait(60))
    given_up = store.submit(lambda c: nodes.insert(c, Node("a", "a")))
    later = store.submit(lambda c: nodes.insert(c, Node("b", "b")))
    assert given_up.cancel()
    gate.set()
    first.result(60)
    later.result(60)
    assert store.read(nodes.ids) == ["b"]


def test_a_bug_does_not_end_the_thread_that_stores_everything(store: Store) -> None:
    def odd(_conn: object) -> None:
        raise GeneratorExit("no ordinary exception")

    with pytest.raises(GeneratorExit):
        store.submit(odd).result(60)
    store.submit(lambda c: nodes.insert(c, Node("b", "b"))).result(60)
    assert store.read(nodes.ids) == ["b"]


def test_a_mac_belongs_to_one_node(store: Store) -> None:
    store.write_sync(lambda c: nodes.insert(c, Node("a", "a")))
    store.write_sync(lambda c: nodes.insert(c, Node("b", "b")))
    store.write_sync(lambda c: ports.add(c, "a", ["52:54:00:00:00:01"]))
    with pytest.raises(Refused, match="belongs to a"):
        store.write_sync(lambda c: ports.add(c, "b", ["52:54:00:00:00:02", "52:54:00:00:00:01"]))
    assert store.read(lambda c: ports.of_node(c, "b")) == []


def test_an_event_is_stored_once_and_never_too_large(store: Store) -> None:
    event = Event("m-1", 1.0, None, Kind.SERVER, "x", "boot", data={"text": "y" * 10_000})
    assert store.write_sync(lambda c: events.add(c, event))
    assert not store.write_sync(lambda c: events.add(c, event))
    (_, stored), *rest = store.read(lambda c: events.after(c, 0))
    assert not rest
    assert stored.data["cut"]
    assert len(str(stored.data)) < events.DATA_LIMIT


def test_the_first_outcome_of_an_order_counts(store: Store) -> None:
    store.write_sync(lambda c: nodes.insert(c, Node("a", "a")))
    store.write_sync(lambda c: orders.insert(c, orders.OrderRow("o", "a", "b", "inspect")))
    assert store.write_sync(lambda c: orders.finish(c, "o", "done", 1.0, {"x": 1}, None))
    assert not store.write_sync(lambda c: orders.finish(c, "o", "failed", 2.0, {}, {"code": "late"}))
    assert store.read(lambda c: orders.get(c, "o")).outcome == "done"


def test_a_secret_opens_only_in_its_place(store: Store) -> None:
    sealer = Sealer(b"1" * 32)
    store.write_sync(lambda c: secrets.put(c, sealer, "node-a", "bmc-password", Secret("hush"), 1.0))
    assert store.read(lambda c: secrets.get(c, sealer, "node-a", "bmc-password")) == Secret("hush")
    raw = store.read(lambda c: c.execute(sa.select(tables.secrets.c.sealed)).scalar())
    assert "hush" not in raw
    with pytest.raises(SealBroken):
        sealer.open(raw, "node-b", "bmc-password")
    with pytest.raises(SealBroken, match="does not open"):
        Sealer(b"2" * 32).open(raw, "node-a", "bmc-password")
    rotated = Sealer(b"2" * 32, b"1" * 32)
    store.write_sync(lambda c: secrets.reseal(c, rotated, 2.0))
    assert store.read(lambda c: secrets.get(c, Sealer(b"2" * 32), "node-a", "bmc-password")) == Secret("hush")


def test_migrations_make_exactly_the_tables(store: Store) -> None:
    with store.engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), tables.meta) == []


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    with opened(url) as store:
        store.write_sync(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(MachineError, match="9999"):
        Store.open(url)


def test_migrations_go_down_and_up_again(tmp_path: Path) -> None:
    from alembic import command

    url = f"sqlite:///{tmp_path}/s.db"
    Store.open(url).close()
    engine = sa.create_engine(url)
    config = schema.alembic_config(url)
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.downgrade(config, "base")
        assert sa.inspect(conn).get_table_names() == ["alembic_version"]
    engine.dispose()
    with opened(url) as store:
        assert schema.current(store.engine) == schema.HEAD


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    with opened(url), pytest.raises(MachineError, match="in use"):
        Store.open(url)


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="not a database") as caught:
        Store.open(f"sqlite:///{tmp_path}/s.db")
    assert "restore" in caught.value.fix


def test_a_locked_database_is_a_clear_error_and_goes_on_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baremetal.store.store.BUSY_TIMEOUT_S", 0.1)
    with opened(f"sqlite:///{tmp_path}/s.db") as store:
        thief = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            store.write_sync(lambda c: nodes.insert(c, Node("a", "a")))
        thief.execute("ROLLBACK")
        thief.close()
        store.write_sync(lambda c: nodes.insert(c, Node("a", "a")))
        assert store.read(nodes.ids) == ["a"]


def test_a_full_disk_is_a_clear_error_loses_nothing_and_heals(tmp_path: Path) -> None:
    """SQLite's own page limit stands in for the disk: the same error, the same code."""
    with opened(f"sqlite:///{tmp_path}/s.db") as store:
        store.write_sync(lambda c: nodes.insert(c, Node("a", "a")))
        pages = store.write_sync(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
        store.write_sync(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar())
        big = {"x": "y" * 200_000}
        with pytest.raises(StoreError, match="full") as caught:
            store.write_sync(lambda c: nodes.insert(c, Node("b", "b", properties=big)))
        assert "free space" in caught.value.fix
        assert store.read(nodes.ids) == ["a"]
        store.write_sync(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000").scalar())
        store.write_sync(lambda c: nodes.insert(c, Node("b", "b", properties=big)))
        assert sorted(store.read(nodes.ids)) == ["a", "b"]
