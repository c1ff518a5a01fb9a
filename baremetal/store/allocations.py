"""Allocations: who holds which node."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.errors import NotFound, Refused
from baremetal.store.tables import allocations


def insert(conn: Connection, row: dict[str, Any]) -> None:
    """A new allocation; its name must be free."""
    if row.get("name") and find(conn, row["name"]):
        raise Refused(
            f"there is an allocation named {row['name']!r} already",
            fix=f"choose another name, or let that one go: baremetal allocation delete {row['name']}",
        )
    conn.execute(allocations.insert().values(row))


def find(conn: Connection, ref: str) -> dict[str, Any] | None:
    """By id or name."""
    where = sa.or_(allocations.c.id == ref, allocations.c.name == ref)
    row = conn.execute(sa.select(allocations).where(where)).first()
    return dict(row._mapping) if row else None


def get(conn: Connection, ref: str) -> dict[str, Any]:
    """By id or name; NotFound otherwise."""
    found = find(conn, ref)
    if found is None:
        raise NotFound(f"no allocation {ref!r}", fix="baremetal allocation list")
    return found


def all_rows(conn: Connection) -> list[dict[str, Any]]:
    """Every allocation, oldest first."""
    return [dict(row._mapping) for row in conn.execute(sa.select(allocations).order_by(allocations.c.created_at))]


def holders(conn: Connection) -> dict[str, str]:
    """Node id -> name (or id) of the allocation that holds it."""
    rows = conn.execute(sa.select(allocations.c.node_id, allocations.c.name, allocations.c.id))
    return {row.node_id: row.name or row.id for row in rows if row.node_id}


def delete(conn: Connection, ref: str) -> None:
    """Let the node go."""
    found = get(conn, ref)
    conn.execute(allocations.delete().where(allocations.c.id == found["id"]))


def release(conn: Connection, node_id: str) -> None:
    """Whatever held this node holds it no longer."""
    conn.execute(allocations.delete().where(allocations.c.node_id == node_id))
