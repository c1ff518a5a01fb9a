"""Carries a SQLite database over to PostgreSQL: everything or nothing, and compared row by row.

All rows go in one transaction, so a move that is cut off leaves an empty database
and the SQLite file as it was. Afterwards the file says where it went, and no server
opens it any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlalchemy.engine import Connection

from baremetal.errors import UsageError
from baremetal.store import care, postgres, schema, servers
from baremetal.store.store import Store, StoreError, _explain
from baremetal.store.tables import meta

BATCH = 500
MOVED = "moved-to"
LOCK = 7_270_004
# What belongs to a life of a server, not to the site.
NOT_MOVED = ("servers", "drivers", "site")


@dataclass(frozen=True)
class Moved:
    """Rows by table, and the digest that both databases have in common."""

    rows: dict[str, int]
    digest: str


def move(path: Path, url: str, tell: Callable[[str], None] = lambda _line: None) -> Moved:
    """Copy the file's rows into the empty database `url`, compare, mark the file. The server must be down."""
    if found := care.problems_of(path):
        raise UsageError(
            f"{path} cannot be moved: {found[0]}", fix="baremetal db restore FILE puts a sound backup there"
        )
    source = Store.open(f"sqlite:///{path}")  # takes the file's lock, and brings it to our schema
    try:
        target = postgres.make_engine(url, "baremetal-move", statement_s=0)
        try:
            schema.upgrade(target, url)
            moved = _copy(source, target, tell)
        except sa.exc.DatabaseError as exc:
            raise _explain(exc, url) from exc
        finally:
            target.dispose()
        source.write_sync(lambda c: servers.say(c, MOVED, postgres.shown(url)))
    finally:
        source.close()
    return moved


def _copy(source: Store, target: sa.Engine, tell: Callable[[str], None]) -> Moved:
    with source.engine.connect() as old, target.connect() as new, new.begin():
        new.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        new.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        _refuse_full(new)
        rows: dict[str, int] = {}
        whole = hashlib.sha256()
        for table in meta.sorted_tables:
            if table.name in NOT_MOVED:
                continue
            rows[table.name] = _copy_table(old, new, table)
            ours, theirs = digest(old, table), digest(new, table)
            if ours != theirs:
                raise StoreError(
                    f"table {table.name} is not the same after the copy: nothing was moved",
                    detail=f"SQLite {ours}, PostgreSQL {theirs}",
                    fix="tell the makers, with baremetal db check",
                )
            whole.update(ours.encode())
            if rows[table.name]:
                tell(f"{table.name}: {rows[table.name]} rows, equal")
        _follow_sequences(new)
    return Moved(rows, whole.hexdigest())


def _refuse_full(conn: Connection) -> None:
    for table in meta.sorted_tables:
        if conn.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise UsageError(
                f"the database is not empty: table {table.name} has rows",
                fix="move into a new one: sudo -u postgres createdb -O baremetal baremetal",
            )


def _copy_table(old: Connection, new: Connection, table: sa.Table) -> int:
    count = 0
    for batch in _batches(old, table):
        try:
            new.execute(table.insert(), batch)
        except sa.exc.DataError as exc:
            raise UsageError(
                f"a row of {table.name} cannot be moved: {str(exc.orig).splitlines()[0]}",
                fix="correct it in the old database first; nothing was moved",
            ) from exc
        count += len(batch)
    return count


def _batches(conn: Connection, table: sa.Table) -> Iterator[list[dict[str, Any]]]:
    found = conn.execution_options(stream_results=True).execute(sa.select(table))
    for rows in found.mappings().partitions(BATCH):
        yield [dict(row) for row in rows]


def digest(conn: Connection, table: sa.Table) -> str:
    """SHA-256 over the rows as JSON, whatever order they come in."""
    total = count = 0
    for rows in conn.execute(sa.select(table)).mappings().partitions(BATCH):
        for row in rows:
            text = json.dumps(dict(row), sort_keys=True, default=str).encode()
            total = (total + int.from_bytes(hashlib.sha256(text).digest(), "big")) % (1 << 256)
            count += 1
    return f"{count}:{total:064x}"


def _follow_sequences(conn: Connection) -> None:
    """New numbers go on after the copied ones."""
    for table in meta.sorted_tables:
        column = table.autoincrement_column
        if column is None:
            continue
        sequence = conn.execute(
            sa.text("SELECT pg_get_serial_sequence(:t, :c)"), {"t": table.name, "c": column.name}
        ).scalar()
        if sequence:
            most = sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1).scalar_subquery()
            conn.execute(sa.select(sa.func.setval(sa.cast(sa.literal(sequence), REGCLASS), most, False)))
