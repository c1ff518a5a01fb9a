"""Orders to agents and what came of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.store import prepared
from baremetal.store.tables import orders


@dataclass(frozen=True)
class OrderRow:
    """`outcome` is None while it runs, then done or failed. Times are Unix seconds."""

    id: str
    node_id: str
    boot_id: str
    kind: str
    args: dict[str, Any] = field(default_factory=dict)
    issued_at: float = 0.0
    outcome: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    progress_at: float | None = None
    finished_at: float | None = None


_FIELDS = tuple(f.name for f in dataclasses.fields(OrderRow))
_OPEN = sa.and_(orders.c.id == sa.bindparam("k_id"), orders.c.outcome.is_(None))
_OPEN_OF_NODE = sa.and_(orders.c.node_id == sa.bindparam("k_node"), orders.c.outcome.is_(None))
_BY_ID = sa.select(orders).where(orders.c.id == sa.bindparam("ref"))


def from_row(row: Any) -> OrderRow:
    """A row as an order."""
    return OrderRow(**{name: row._mapping[name] for name in _FIELDS})


def get(conn: Connection, order_id: str | None) -> OrderRow | None:
    """One order."""
    row = conn.execute(_BY_ID, {"ref": order_id}).first() if order_id else None
    return from_row(row) if row else None


def insert(conn: Connection, order: OrderRow) -> None:
    """A new order."""
    conn.execute(prepared.insert(orders), {name: getattr(order, name) for name in _FIELDS})


def finish(
    conn: Connection, order_id: str, outcome: str, now: float, data: dict[str, Any], fault: dict[str, Any] | None
) -> bool:
    """Its outcome; the first one counts. False when it is unknown or was finished before."""
    values = {"outcome": outcome, "data": data, "fault": fault, "finished_at": now}
    return prepared.update(conn, orders, _OPEN, {"id": order_id}, values, "open") == 1


def progress(conn: Connection, order_id: str, data: dict[str, Any], now: float) -> bool:
    """How far it is. False when it is over."""
    return prepared.update(conn, orders, _OPEN, {"id": order_id}, {"progress": data, "progress_at": now}, "open") == 1


def unfinished(conn: Connection) -> dict[str, OrderRow]:
    """The newest unfinished order of every node, by node id."""
    query = sa.select(orders).where(orders.c.outcome.is_(None)).order_by(orders.c.issued_at)
    return {row.node_id: from_row(row) for row in conn.execute(query)}


def of_node(conn: Connection, node_id: str, limit: int = 20) -> list[OrderRow]:
    """The node's orders, newest first."""
    query = sa.select(orders).where(orders.c.node_id == node_id).order_by(orders.c.issued_at.desc()).limit(limit)
    return [from_row(row) for row in conn.execute(query)]


def withdraw(conn: Connection, node_id: str, now: float) -> None:
    """Nobody waits for this node's open orders any more."""
    values = {"outcome": "withdrawn", "finished_at": now}
    prepared.update(conn, orders, _OPEN_OF_NODE, {"node": node_id}, values, "open of node")
