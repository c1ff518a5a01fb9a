"""What inspection found, one document a node; apart from the hot node rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from baremetal.store.tables import inventories


def put(conn: Connection, node_id: str, data: dict[str, Any], now: float) -> None:
    """Store or replace."""
    conn.execute(delete(inventories).where(inventories.c.node_id == node_id))
    conn.execute(insert(inventories).values(node_id=node_id, at=now, data=data))


def get(conn: Connection, node_id: str) -> tuple[float, dict[str, Any]] | None:
    """(when, inventory), None before the first inspection."""
    row = conn.execute(select(inventories).where(inventories.c.node_id == node_id)).first()
    return (row.at, row.data) if row else None
