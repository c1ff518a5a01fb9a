"""PostgreSQL databases of every schema there ever was are brought up, whole or not at all."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from baremetal.engine.cluster import Cluster
from baremetal.store import nodes, opened, schema, servers
from baremetal.store.store import make_engine

pytestmark = pytest.mark.integration

_FILE = Path(__file__).parents[2] / "unit/engine/test_migrations_kept.py"
_spec = importlib.util.spec_from_file_location("migrations_kept_pg", _FILE)
assert _spec
assert _spec.loader
kept = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kept)


def fill(conn: sa.Connection) -> dict[str, dict[str, Any]]:
    """One row in every table of the schema as it is; what a server keeps of its site is not made up."""
    found, made, rows = sa.MetaData(), {}, {}
    found.reflect(conn)
    for table in found.sorted_tables:
        if table.name in ("alembic_version", "site"):
            continue
        row = {column.name: kept.value(column, made) for column in table.columns}
        conn.execute(insert(table).values(row).on_conflict_do_nothing())
        made |= {(table.name, name): known for name, known in row.items()}
        rows[table.name] = row
    return rows


def same(conn: sa.Connection, rows: dict[str, dict[str, Any]]) -> None:
    """All of them are there, unchanged."""
    now = sa.MetaData()
    now.reflect(conn)
    for name, row in rows.items():
        there = [dict(found) for found in conn.execute(sa.select(now.tables[name])).mappings()]
        assert [one for one in there if row.items() <= one.items()], (name, row, there)


@pytest.mark.parametrize("revision", kept.REVISIONS)
def test_rows_survive_the_way_up(empty: str, revision: str) -> None:
    engine = make_engine(empty)
    schema.upgrade(engine, empty, to=revision)
    with engine.begin() as conn:
        rows = fill(conn)
    engine.dispose()
    assert len(rows) >= 10
    with opened(empty) as store:
        assert schema.current(store.engine) == schema.HEAD
        with store.engine.connect() as conn:
            same(conn, rows)
        assert str(store.read(lambda c: nodes.get(c, "nodes.name")).state) == "active"
        if "servers" in rows:  # a life that somebody made up, and that nobody beats
            store.write_sync(lambda c: servers.end(c, "servers.id", "test"))
    born = Cluster(empty, name="one", version="0.1.0", site="test")
    try:
        born.open_store()
        born.join()  # procrastinate's tables, triggers, the site: all that a server needs
    finally:
        born.leave()
        assert born.store is not None
        born.store.close()


@pytest.mark.parametrize("at", kept.REVISIONS[1:])
def test_a_migration_that_is_cut_off_has_not_happened(empty: str, at: str) -> None:
    """kill -9 of the session just before it notes a revision; the next start does all of it."""
    engine = make_engine(empty, "baremetal-cut")
    schema.upgrade(engine, empty, to=kept.REVISIONS[0])
    with engine.begin() as conn:
        rows = fill(conn)

    def cut(_conn: Any, _cursor: Any, statement: str, _values: Any, _context: Any, _many: bool) -> None:
        if statement.startswith("UPDATE alembic_version") and f"version_num='{at}'" in statement:
            with make_engine(empty, "baremetal-cutter").begin() as other:
                kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'baremetal-cut'"
                other.exec_driver_sql(kill)

    sa.event.listen(engine, "before_cursor_execute", cut)
    with pytest.raises(sa.exc.DBAPIError):
        schema.upgrade(engine, empty)
    engine.dispose()
    again = make_engine(empty)
    assert schema.current(again) == kept.REVISIONS[0]
    with again.connect() as conn:
        same(conn, rows)
        assert not sa.inspect(conn).has_table("site")
    again.dispose()
    with opened(empty) as store:
        assert schema.current(store.engine) == schema.HEAD
        with store.engine.connect() as conn:
            same(conn, rows)


def test_servers_that_start_at_once_migrate_once(empty: str) -> None:
    engine = make_engine(empty)
    schema.upgrade(engine, empty, to=kept.REVISIONS[0])
    engine.dispose()
    errors: list[BaseException] = []

    def begin() -> None:
        try:
            with opened(empty):
                pass
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
