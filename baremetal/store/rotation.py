"""Everything sealed, sealed anew with other keys: every column that holds seal.py's text, wherever it stands.

A sealed text names the key it needs and is bound to its owner and field, so
each place says how its owner is found. Nothing is decided by table: a secret of
an operator and one of metadata can stand in the same column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.store import tables
from baremetal.store.seal import Sealer

Owner = Callable[[Any], tuple[str, str]]


@dataclass(frozen=True)
class Place:
    """A column with sealed text; `owner` gives (owner, field) of a row. `inside`: the key in a JSON column."""

    table: sa.Table
    column: str
    owner: Owner
    inside: str = ""


PLACES = (
    Place(tables.secrets, "sealed", lambda row: (row.owner, row.field)),
    Place(tables.boots, "nonce_key", lambda row: (row.id, "nonce-key")),
    Place(tables.orders, "args", lambda row: (row.node_id, "config-drive"), inside="config_drive"),
    Place(tables.metadata_layers, "sealed", lambda row: (f"{row.layer}/{row.name}", "values")),
    Place(tables.metadata_changes, "sealed", lambda row: (f"{row.layer}/{row.name}", "values")),
    Place(tables.metadata_documents, "sealed", lambda row: (row.node_id, "document")),
    Place(tables.metadata_past, "sealed", lambda row: (row.node_id, "document")),
    Place(tables.metadata_rollouts, "sealed", lambda row: (f"{row.layer}/{row.name}", "before")),
)


def reseal(conn: Connection, sealers: dict[str, tuple[Sealer, Sealer]]) -> int:
    """Open with the old and seal with the new sealer, by key id of the text: `{key id: (old, new)}`. How many."""
    return sum(_place(conn, place, sealers) for place in PLACES)


def _place(conn: Connection, place: Place, sealers: dict[str, tuple[Sealer, Sealer]]) -> int:
    key = list(place.table.primary_key.columns)
    count = 0
    for row in conn.execute(sa.select(place.table)).all():
        value = row._mapping[place.column]
        text = value.get(place.inside) if place.inside and value else value
        if not isinstance(text, str) or text.count(":") != 3 or text.split(":")[1] not in sealers:
            continue
        old, new = sealers[text.split(":")[1]]
        owner, field = place.owner(row)
        made: Any = new.seal(old.open(text, owner, field), owner, field)
        if place.inside:
            made = {**value, place.inside: made}
        same = sa.and_(*(column == row._mapping[column.name] for column in key))
        conn.execute(sa.update(place.table).where(same).values({place.column: made}))
        count += 1
    return count
