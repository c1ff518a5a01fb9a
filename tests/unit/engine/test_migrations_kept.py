"""A database of every schema there ever was is brought up with a row in each of its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from baremetal.store import nodes, opened, schema
from baremetal.store.store import make_engine

REVISIONS = sorted(path.name[:4] for path in (schema.MIGRATIONS / "versions").glob("[0-9]*.py"))
# Where the value means something to who reads it.
WORDS = {"state": "active", "power": "on", "firmware": "bios", "mac": "52:54:00:00:00:01", "purpose": "instance"}


def value(column: sa.Column[Any], made: dict[tuple[str, str], Any]) -> Any:
    """A value for this column that can be recognised afterwards."""
    for key in column.foreign_keys:
        return made[key.column.table.name, key.column.name]
    kind = column.type
    if isinstance(kind, sa.Text | sa.String) and not isinstance(kind, sa.JSON):
        return WORDS.get(column.name, f"{column.table.name}.{column.name}"[: kind.length or 99])
    if isinstance(kind, sa.JSON):
        return [] if column.name in ("traits", "nodes") else {}
    if isinstance(kind, sa.LargeBinary):
        return b"sealed"
    return False if isinstance(kind, sa.Boolean) else 7


def fill(conn: sa.Connection) -> dict[str, dict[str, Any]]:
    """One row in every table of the schema as it is."""
    found, made, rows = sa.MetaData(), {}, {}
    found.reflect(conn)
    for table in found.sorted_tables:
        if table.name == "alembic_version":
            continue
        row = {column.name: value(column, made) for column in table.columns}
        conn.execute(table.insert().prefix_with("OR IGNORE"), row)
        made |= {(table.name, name): known for name, known in row.items()}
        rows[table.name] = row
    return rows


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_survive_the_way_up(tmp_path: Path, revision: str) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    engine = make_engine(url)
    schema.upgrade(engine, url, to=revision)
    with engine.begin() as conn:
        rows = fill(conn)
    engine.dispose()
    assert len(rows) >= 10
    with opened(url) as store:
        assert schema.current(store.engine) == schema.HEAD == REVISIONS[-1]
        with store.engine.connect() as conn:
            now = sa.MetaData()
            now.reflect(conn)
            for name, row in rows.items():
                table = now.tables[name]
                kept = [dict(r) for r in conn.execute(sa.select(table)).mappings()]
                assert [k for k in kept if row.items() <= k.items()], (name, row, kept)
            assert conn.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            assert conn.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        node = store.read(lambda c: nodes.get(c, "nodes.name"))
        assert (str(node.state), node.traits) == ("active", ())


def test_a_database_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/newer.db"
    with opened(url) as store, store.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9998'")
        conn.exec_driver_sql("DELETE FROM site WHERE key = 'schema-floor'")
    with pytest.raises(Exception, match="schema 9998, which this program does not know"), opened(url):
        pass
