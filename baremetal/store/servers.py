"""Servers that share one database: who they are, whether they live, who drives which node.

Times are the database's own clock (Unix seconds): servers' clocks may differ by minutes.
An instance is one life of one server; a restarted server is another one.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.store.tables import meta

site = sa.Table(
    "site",
    meta,
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

servers = sa.Table(
    "servers",
    meta,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("boot", sa.String(36), nullable=False),  # the kernel's boot id: pids mean something only within it
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("schema", sa.String(20), nullable=False),
    sa.Column("urls", sa.JSON, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("beat_at", sa.Float, nullable=False),
    sa.Column("clock_off_s", sa.Float, nullable=False),
    sa.Column("worker", sa.BigInteger),  # procrastinate's number of it
    sa.Column("holds", sa.JSON, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("ended_by", sa.Text),
    sa.Index("servers_ended_at", "ended_at"),
)

drivers = sa.Table(
    "drivers",
    meta,
    sa.Column("node_id", sa.String(36), sa.ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("server_id", sa.String(36), nullable=False, index=True),
    sa.Column("since", sa.Float, nullable=False),
)

NOW = sa.literal_column("extract(epoch from clock_timestamp())", sa.Float)


@dataclass(frozen=True)
class Server:
    """One life of a server. `holds`: what only one may do ("leader", "pool:<network>")."""

    id: str
    name: str
    host: str
    boot: str
    pid: int
    version: str
    schema: str
    urls: list[str] = field(default_factory=list)
    started_at: float = 0.0
    beat_at: float = 0.0
    clock_off_s: float = 0.0
    worker: int | None = None
    holds: list[str] = field(default_factory=list)
    ended_at: float | None = None
    ended_by: str | None = None


_FIELDS = tuple(f.name for f in fields(Server))


def from_row(row: Any) -> Server:
    """A row as a server."""
    return Server(**{name: row._mapping[name] for name in _FIELDS})


def now(conn: Connection) -> float:
    """The database's clock, Unix seconds."""
    return float(conn.execute(sa.select(NOW)).scalar() or 0.0)


def register(conn: Connection, server: Server) -> float:
    """A life begins; when (the database's clock)."""
    at = now(conn)
    row = {name: getattr(server, name) for name in _FIELDS} | {"started_at": at, "beat_at": at}
    conn.execute(servers.insert().values(row))
    return at


def beat(conn: Connection, instance: str, clock_off_s: float, holds: Sequence[str]) -> float | None:
    """It lives; the database's clock, or None when others have ended it."""
    values = {"beat_at": NOW, "clock_off_s": clock_off_s, "holds": list(holds)}
    query = servers.update().where(servers.c.id == instance, servers.c.ended_at.is_(None)).values(values)
    row = conn.execute(query.returning(servers.c.beat_at)).first()
    return float(row[0]) if row else None


def change(conn: Connection, instance: str, **columns: Any) -> None:
    """Write these columns."""
    conn.execute(servers.update().where(servers.c.id == instance).values(columns))


def admitted(conn: Connection, instance: str, opening: str) -> bool:
    """May this life still write? Opens a transaction; the answer holds until it ends: `end` waits for it.

    One message for all of it: what stands before BEGIN in a message belongs to the transaction (PostgreSQL's
    manual, "Multiple Statements in a Simple Query").
    """
    alive = f"SELECT id FROM servers WHERE id = '{uuid.UUID(instance)}' AND ended_at IS NULL FOR KEY SHARE"  # noqa: S608
    return conn.exec_driver_sql(f"{alive}; {opening}").first() is not None


def end(conn: Connection, instance: str, by: str) -> bool:
    """Its life is over: from the commit on nothing of it is written. False when it was over before."""
    lock = sa.select(servers.c.id).where(servers.c.id == instance, servers.c.ended_at.is_(None)).with_for_update()
    if conn.execute(lock).first() is None:
        return False
    conn.execute(servers.update().where(servers.c.id == instance).values(ended_at=NOW, ended_by=by))
    return True


def alive(conn: Connection) -> list[Server]:
    """Those whose life is not over, oldest first."""
    query = sa.select(servers).where(servers.c.ended_at.is_(None)).order_by(servers.c.started_at, servers.c.id)
    return [from_row(row) for row in conn.execute(query)]


def newest(conn: Connection, limit: int = 50) -> list[Server]:
    """All of late, those that live first."""
    query = sa.select(servers).order_by(servers.c.ended_at.desc().nulls_first(), servers.c.started_at).limit(limit)
    return [from_row(row) for row in conn.execute(query)]


def forget(conn: Connection, before: float) -> int:
    """Drop lives that ended before this time."""
    return conn.execute(servers.delete().where(servers.c.ended_at < before)).rowcount


# -- who drives which node ---------------------------------------------------


def release_all(conn: Connection, instances: Iterable[str]) -> list[str]:
    """These servers drive nothing any more; the nodes they drove."""
    query = drivers.delete().where(drivers.c.server_id.in_(list(instances))).returning(drivers.c.node_id)
    return [row[0] for row in conn.execute(query)]


def driven(conn: Connection, node_ids: Sequence[str] | None = None) -> dict[str, tuple[str, float]]:
    """node id -> (instance, since)."""
    query = sa.select(drivers)
    if node_ids is not None:
        query = query.where(drivers.c.node_id.in_(list(node_ids)))
    return {row.node_id: (row.server_id, row.since) for row in conn.execute(query)}


def counts(conn: Connection) -> dict[str, int]:
    """instance -> how many nodes it drives."""
    query = sa.select(drivers.c.server_id, sa.func.count()).group_by(drivers.c.server_id)
    return {row[0]: row[1] for row in conn.execute(query)}


def alone(conn: Connection, what: str) -> None:
    """One server at a time does this, until its transaction ends; what it reads afterwards is the newest."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(7_270_200, zlib.crc32(what.encode()) >> 1)))


# -- the site ------------------------------------------------------------------


def said(conn: Connection, key: str) -> str | None:
    """What the database says of its site."""
    return conn.execute(sa.select(site.c.value).where(site.c.key == key)).scalar()


def say(conn: Connection, key: str, value: str) -> None:
    """Write it down."""
    if conn.execute(site.update().where(site.c.key == key).values(value=value)).rowcount == 0:
        conn.execute(site.insert().values(key=key, value=value))
