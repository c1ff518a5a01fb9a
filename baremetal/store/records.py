"""Small documents that APIs keep beside nodes, by kind and name: deploy templates, runbooks, webhooks."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.errors import Refused
from baremetal.store.tables import records


@dataclass(frozen=True)
class Record:
    """One document. Times are Unix seconds."""

    id: str
    kind: str
    name: str
    doc: dict[str, Any]
    created_at: float
    updated_at: float


def add(conn: Connection, record: Record) -> None:
    """Store a new one; refused when its kind has this name or id already."""
    same = (records.c.kind == record.kind) & ((records.c.name == record.name) | (records.c.id == record.id))
    if conn.execute(sa.select(records.c.id).where(same)).first():
        raise Refused(f"there is a {record.kind} named {record.name!r} already", fix="choose another name")
    conn.execute(records.insert().values(**vars(record)))


def put(conn: Connection, kind: str, name: str, doc: dict[str, Any], now: float) -> None:
    """Store it under this name, whatever was there."""
    row = find(conn, kind, name)
    if row:
        change(conn, row.id, name, doc, now)
    else:
        add(conn, Record(str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{name}")), kind, name, doc, now, now))


def find(conn: Connection, kind: str, ref: str) -> Record | None:
    """By id or name."""
    same = (records.c.kind == kind) & ((records.c.id == ref) | (records.c.name == ref))
    row = conn.execute(sa.select(records).where(same)).first()
    return Record(**row._mapping) if row else None


def of_kind(conn: Connection, kind: str) -> list[Record]:
    """All of a kind, by name."""
    query = sa.select(records).where(records.c.kind == kind).order_by(records.c.name)
    return [Record(**row._mapping) for row in conn.execute(query)]


def change(conn: Connection, record_id: str, name: str, doc: dict[str, Any], now: float) -> None:
    """Another name or document."""
    conn.execute(records.update().where(records.c.id == record_id).values(name=name, doc=doc, updated_at=now))


def delete(conn: Connection, record_id: str) -> None:
    """Forget it."""
    conn.execute(records.delete().where(records.c.id == record_id))
