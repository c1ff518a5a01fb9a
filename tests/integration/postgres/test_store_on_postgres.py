"""What the store promises on SQLite it promises on PostgreSQL: the same tests, another database."""

from __future__ import annotations

import importlib.util
import inspect
import threading
from pathlib import Path
from typing import Any

import pytest

from baremetal.errors import MachineError
from baremetal.model.node import Node
from baremetal.store import Store, StoreError, nodes, opened, orders, postgres, schema
from baremetal.store.store import BadValue

pytestmark = pytest.mark.integration

_FILE = Path(__file__).parents[2] / "unit/engine/test_store_promises.py"
_spec = importlib.util.spec_from_file_location("store_promises", _FILE)
assert _spec
assert _spec.loader
_promises = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_promises)
_SHARED = [
    name
    for name, test in vars(_promises).items()
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["store"]
]


@pytest.fixture
def store(database: str) -> Any:
    with opened(database) as one:
        yield one


@pytest.mark.parametrize("name", _SHARED)
def test_the_same_promise(store: Store, name: str) -> None:
    getattr(_promises, name)(store)


def test_there_are_promises_to_keep() -> None:
    assert len(_SHARED) >= 9


def test_two_servers_on_one_node_and_one_is_fenced(database: str) -> None:
    with opened(database) as one, opened(database) as two:
        one.write_sync(lambda c: nodes.insert(c, Node("a", "a")))
        outcomes: list[str] = []
        start = threading.Barrier(2)

        def save(store: Store, step: str) -> None:
            before = store.read(lambda c: nodes.get(c, "a"))
            start.wait()
            try:
                store.write_sync(lambda c: nodes.save(c, before, _with(before, step), 1.0))
                outcomes.append(step)
            except Exception as exc:
                outcomes.append(type(exc).__name__)

        threads = [threading.Thread(target=save, args=(s, n)) for s, n in ((one, "x"), (two, "y"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes)[0] == "Fenced"
        assert one.read(lambda c: nodes.get(c, "a")).fence == 1


def _with(node: Node, step: str) -> Node:
    import dataclasses

    return dataclasses.replace(node, step=step)


def test_batches_of_two_servers_never_wait_for_each_other(database: str) -> None:
    """Each writes the same forty rows in the opposite order, in batches; everything is stored."""
    with opened(database) as one, opened(database) as two:
        for i in range(40):
            one.write_sync(lambda c, i=i: nodes.insert(c, Node(f"i{i}", f"n{i}")))
        work = []
        for _ in range(5):
            work += [one.submit(lambda c, i=i: nodes.note(c, f"i{i}", 1.0)) for i in range(40)]
            work += [two.submit(lambda c, i=i: nodes.note(c, f"i{i}", 1.0)) for i in reversed(range(40))]
        assert all(future.result(60) for future in work)
        assert {one.read(lambda c, i=i: nodes.get(c, f"i{i}")).evidence for i in range(40)} == {10}


def test_a_restarted_database_costs_nothing_that_was_stored(cluster: Any, database: str) -> None:
    with opened(database) as store:
        store.write_sync(lambda c: nodes.insert(c, Node("a", "a")))
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'baremetal'")
        assert store.read(lambda c: nodes.get(c, "a")).name == "a"
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'baremetal'")
        store.write_sync(lambda c: nodes.insert(c, Node("b", "b")))
        assert store.read(nodes.ids) == ["a", "b"]


def test_a_value_it_cannot_hold_is_an_error_of_that_value_alone(database: str) -> None:
    with opened(database) as store:
        with pytest.raises(BadValue, match="NUL"):
            store.write_sync(lambda c: nodes.insert(c, Node("a", "a", serial="x\x00")))
        store.write_sync(lambda c: nodes.insert(c, Node("b", "b", serial="y" * 5000)))
        store.write_sync(lambda c: orders.insert(c, orders.OrderRow("o" * 100, "b", "b", "inspect")))


def test_nobody_there_is_said_so() -> None:
    with pytest.raises(StoreError) as caught:
        Store.open("postgresql://bm@127.0.0.1:1/none")
    assert "postgresql" in caught.value.fix
    assert "refused" in caught.value.brief


def test_a_missing_database_is_said_so(cluster: Any) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(cluster.url("nowhere"))
    assert "createdb" in caught.value.fix


def test_passwords_are_not_shown() -> None:
    assert "hush" not in postgres.shown("postgresql://bm:hush@db/x")


def test_two_servers_may_start_on_an_empty_database_at_once(empty: str) -> None:
    failed: list[BaseException] = []

    def start() -> None:
        try:
            Store.open(empty).close()
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with opened(empty) as store:
        assert schema.current(store.engine) == schema.HEAD


def test_a_newer_schema_is_refused_unless_it_says_that_it_only_added(database: str) -> None:
    import sqlalchemy as sa

    with opened(database) as store:
        store.write_sync(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '9000'")))
    with pytest.raises(MachineError, match="9000"):
        Store.open(database)
    engine = postgres.make_engine(database)
    with engine.begin() as conn:
        conn.execute(sa.text("INSERT INTO site (key, value) VALUES ('schema-floor', '0001')"))
    engine.dispose()
    Store.open(database).close()
