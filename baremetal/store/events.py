"""Events: append-only, idempotent by id, read by node or in order of arrival."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.model.event import Event, Kind
from baremetal.store import prepared
from baremetal.store.tables import events, nodes

DATA_LIMIT = 4096
# Kinds that tell a node's story in short: `baremetal node history`.
HISTORY = (Kind.VERB, Kind.STATE, Kind.FAULT, Kind.SECURITY)

PROOF = "erased"  # stage of the events that prove what was erased, how and when


def _unless_there() -> Any:
    """INSERT of an event that may be there already, of a node that may be gone: one statement for three questions."""
    names = [column.name for column in events.c if column.name != "seq"]
    values: dict[str, Any] = {name: sa.bindparam(name, type_=events.c[name].type) for name in names}
    values["node_id"] = sa.select(nodes.c.id).where(nodes.c.id == sa.bindparam("node_id")).scalar_subquery()
    there = sa.exists().where(events.c.id == sa.bindparam("id"))
    row = sa.select(*(values[name] for name in names)).where(~there)
    return events.insert().from_select(names, row).returning(events.c.seq)


_ADD = _unless_there()


def add(conn: Connection, event: Event) -> bool:
    """Append; False when this id is stored already (a repeated message). Without its node when that is gone."""
    return conn.execute(_ADD, to_row(event)).first() is not None


def add_all(conn: Connection, new: Iterable[Event]) -> None:
    """Append events whose ids we made ourselves."""
    rows = [to_row(event) for event in new]
    if rows:
        conn.execute(prepared.insert(events), rows)


def to_row(event: Event) -> dict[str, Any]:
    """The event as column values; oversized data is cut down and says so."""
    data = event.data
    if data and len(json.dumps(data)) > DATA_LIMIT:
        data = {"cut": True, "text": json.dumps(data)[: DATA_LIMIT // 2]}
    return {
        "id": event.id,
        "time": event.time,
        "node_id": event.node_id,
        "kind": str(event.kind),
        "stage": event.stage,
        "source": event.source,
        "outcome": event.outcome,
        "boot_id": event.boot_id,
        "fence": event.fence,
        "duration_ms": event.duration_ms,
        "fault_code": event.fault_code,
        "data": data,
    }


def from_row(row: Any) -> tuple[int, Event]:
    """(sequence number, event)."""
    doc = dict(row._mapping)
    seq = doc.pop("seq")
    doc["kind"] = Kind(doc["kind"])
    return seq, Event(**doc)


def of_node(
    conn: Connection, node_id: str, *, since: float = 0.0, kinds: Sequence[str] = (), limit: int = 2000
) -> list[Event]:
    """The node's newest events, oldest first."""
    query = sa.select(events).where(events.c.node_id == node_id, events.c.time >= since)
    if kinds:
        query = query.where(events.c.kind.in_(list(kinds)))
    rows = conn.execute(query.order_by(events.c.seq.desc()).limit(limit)).all()
    return [from_row(row)[1] for row in reversed(rows)]


def after(
    conn: Connection, seq: int, *, node_id: str | None = None, kind: str | None = None, limit: int = 500
) -> list[tuple[int, Event]]:
    """What came after `seq`, in order of arrival."""
    query = sa.select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit)
    if node_id:
        query = query.where(events.c.node_id == node_id)
    if kind:
        query = query.where(events.c.kind == kind)
    return [from_row(row) for row in conn.execute(query)]


def newest(
    conn: Connection, *, node_id: str | None = None, kind: str | None = None, limit: int = 500
) -> list[tuple[int, Event]]:
    """The last `limit` of them, in order of arrival."""
    query = sa.select(events).order_by(events.c.seq.desc()).limit(limit)
    if node_id:
        query = query.where(events.c.node_id == node_id)
    if kind:
        query = query.where(events.c.kind == kind)
    return [from_row(row) for row in reversed(conn.execute(query).all())]


def since(conn: Connection, kind: str, when: float, limit: int = 500) -> list[Event]:
    """The newest events of this kind since `when` (Unix seconds), of all nodes and of none, oldest first."""
    query = sa.select(events).where(events.c.kind == kind, events.c.time >= when)
    rows = conn.execute(query.order_by(events.c.seq.desc()).limit(limit)).all()
    return [from_row(row)[1] for row in reversed(rows)]


def last_seq(conn: Connection) -> int:
    """The newest sequence number, 0 when there is none."""
    return int(conn.execute(sa.select(sa.func.max(events.c.seq))).scalar() or 0)


def seq_of(conn: Connection, ref: str) -> int:
    """A cursor given as number or as event id; 0 when unknown."""
    if ref.isdigit():
        return int(ref)
    return int(conn.execute(sa.select(events.c.seq).where(events.c.id == ref)).scalar() or 0)


def proofs(conn: Connection, node_id: str | None = None, limit: int = 1000) -> list[Event]:
    """The newest proofs of erased disks, of one node or of all, oldest first."""
    query = sa.select(events).where(events.c.stage == PROOF, events.c.kind == str(Kind.STEP))
    if node_id:
        query = query.where(events.c.node_id == node_id)
    rows = conn.execute(query.order_by(events.c.seq.desc()).limit(limit)).all()
    return [from_row(row)[1] for row in reversed(rows)]


def prune(conn: Connection, before: float) -> int:
    """Drop events older than `before` (Unix seconds), but no proof of an erased disk.

    explain reads the node row first, so it survives that.
    """
    old = sa.and_(events.c.time < before, events.c.stage != PROOF)
    return conn.execute(events.delete().where(old)).rowcount
