"""JSON schemas of metadata: of the site, of roles."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection

from baremetal.store.tables import metadata_schemas as schemas


def all_of(conn: Connection) -> dict[tuple[str, str], Any]:
    """Every schema by (layer, name)."""
    return {(row.layer, row.name): row.schema for row in conn.execute(schemas.select())}


def put(conn: Connection, layer: str, name: str, schema: Any, now: float) -> None:
    """Store or replace."""
    forget(conn, layer, name)
    conn.execute(schemas.insert().values(layer=layer, name=name, schema=schema, updated_at=now))


def forget(conn: Connection, layer: str, name: str) -> None:
    """Drop it."""
    conn.execute(schemas.delete().where((schemas.c.layer == layer) & (schemas.c.name == name)))
