"""Metadata: layers as operators wrote them, and the signed document of each node. Sealed at rest."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, or_, select
from sqlalchemy.engine import Connection

from baremetal.secrets import Secret
from baremetal.store import prepared
from baremetal.store.seal import Sealer
from baremetal.store.tables import metadata_changes as changes
from baremetal.store.tables import metadata_documents as documents
from baremetal.store.tables import metadata_layers as layers
from baremetal.store.tables import metadata_past as past

# From the most general to the most special; later ones win.
LAYERS = ("defaults", "site", "role", "node")
KEEP_GENERATIONS = 10  # of a node's earlier documents
KEEP_CHANGES = 200  # of a layer's earlier values

FEW = 50
_DOCUMENT = select(documents).where(documents.c.node_id == bindparam("node"))
_MINE = documents.c.node_id == bindparam("k_node")
_COPIED = ("node_id", "generation", "sealed", "made_at")
_KEEP = past.insert().from_select(_COPIED, select(*(documents.c[name] for name in _COPIED)).where(_MINE))
_FORGET_OLD = past.delete().where(past.c.node_id == bindparam("k_node"), past.c.generation < bindparam("k_before"))
_DROP = documents.delete().where(_MINE)


@dataclass(frozen=True)
class StoredDocument:
    """The exact text served, its generation and signature (base64). `digest` is over the values."""

    node_id: str
    generation: int
    text: str
    signature: str
    digest: str
    made_at: float


@dataclass(frozen=True)
class LayerChange:
    """One change of a layer. `values` are the layer's after it."""

    id: int
    layer: str
    name: str
    at: float
    by: str
    why: str
    values: dict[str, Any]


def get_layer(conn: Connection, sealer: Sealer, layer: str, name: str = "") -> tuple[dict[str, Any], float]:
    """(values, when written) of one layer; empty when it was never written."""
    where = (layers.c.layer == layer) & (layers.c.name == name)
    row = conn.execute(select(layers).where(where)).first()
    return (_open(sealer, row), row.updated_at) if row else ({}, 0.0)


def all_layers(conn: Connection, sealer: Sealer, layer: str) -> dict[str, dict[str, Any]]:
    """Values of every layer of this kind, by its name."""
    return {row.name: _open(sealer, row) for row in conn.execute(select(layers).where(layers.c.layer == layer))}


def put_layer(
    conn: Connection,
    sealer: Sealer,
    layer: str,
    name: str,
    values: dict[str, Any],
    now: float,
    by: str = "",
    why: str = "",
) -> None:
    """Replace one layer; what it was stays in its history."""
    conn.execute(delete(layers).where((layers.c.layer == layer) & (layers.c.name == name)))
    sealed = sealer.seal(Secret(json.dumps(values)), f"{layer}/{name}", "values")
    conn.execute(insert(layers).values(layer=layer, name=name, sealed=sealed, updated_at=now))
    conn.execute(insert(changes).values(layer=layer, name=name, sealed=sealed, at=now, by=by, why=why))
    mine = (changes.c.layer == layer) & (changes.c.name == name)
    old = conn.execute(select(changes.c.id).where(mine).order_by(changes.c.id.desc()).offset(KEEP_CHANGES).limit(1))
    if oldest := old.scalar():
        conn.execute(delete(changes).where(mine & (changes.c.id <= oldest)))


def history(
    conn: Connection, sealer: Sealer, places: Collection[tuple[str, str]], limit: int = 50
) -> list[LayerChange]:
    """The last changes of these layers (layer, name), newest first."""
    wanted = or_(*((changes.c.layer == layer) & (changes.c.name == name) for layer, name in places))
    rows = conn.execute(select(changes).where(wanted).order_by(changes.c.id.desc()).limit(limit))
    return [_change(sealer, row) for row in rows]


def get_change(conn: Connection, sealer: Sealer, change_id: int) -> LayerChange | None:
    """One change by its number."""
    row = conn.execute(select(changes).where(changes.c.id == change_id)).first()
    return _change(sealer, row) if row else None


def values_before(conn: Connection, sealer: Sealer, change: LayerChange) -> dict[str, Any]:
    """What the layer was before this change, as far as it is remembered."""
    mine = (changes.c.layer == change.layer) & (changes.c.name == change.name) & (changes.c.id < change.id)
    row = conn.execute(select(changes).where(mine).order_by(changes.c.id.desc()).limit(1)).first()
    return _open(sealer, row) if row else {}


def shared_layers(conn: Connection, sealer: Sealer) -> list[dict[str, Any]]:
    """Values of every layer that belongs to no single node."""
    return [_open(sealer, row) for row in conn.execute(select(layers).where(layers.c.layer != "node"))]


def forget_layer(conn: Connection, layer: str, name: str) -> None:
    """Drop one layer and its history."""
    for table in (layers, changes):
        conn.execute(delete(table).where((table.c.layer == layer) & (table.c.name == name)))


def get_document(conn: Connection, sealer: Sealer, node_id: str) -> StoredDocument | None:
    """The node's document."""
    row = conn.execute(_DOCUMENT, {"node": node_id}).first()
    return from_row(sealer, row) if row else None


def all_documents(conn: Connection, sealer: Sealer, node_ids: Collection[str]) -> dict[str, StoredDocument]:
    """The documents of these nodes."""
    wanted = set(node_ids)
    if not wanted:
        return {}
    if len(wanted) <= FEW:
        rows = conn.execute(select(documents).where(documents.c.node_id.in_(list(wanted))))
        return {row.node_id: from_row(sealer, row) for row in rows}
    return {row.node_id: from_row(sealer, row) for row in conn.execute(select(documents)) if row.node_id in wanted}


def generations(conn: Connection) -> dict[str, tuple[int, str]]:
    """(generation, digest) of every node's document, without opening one."""
    columns = select(documents.c.node_id, documents.c.generation, documents.c.digest)
    return {row.node_id: (row.generation, row.digest) for row in conn.execute(columns)}


def put_documents(conn: Connection, sealer: Sealer, docs: Sequence[StoredDocument]) -> None:
    """Replace the documents of these nodes; the ones before stay for `history`."""
    if not docs:
        return
    ids = [{"k_node": doc.node_id, "k_before": doc.generation - KEEP_GENERATIONS} for doc in docs]
    conn.execute(_KEEP, ids)
    conn.execute(_FORGET_OLD, ids)
    conn.execute(_DROP, ids)
    conn.execute(
        prepared.insert(documents),
        [
            {
                "node_id": doc.node_id,
                "generation": doc.generation,
                "sealed": sealer.seal(doc.text, doc.node_id, "document"),
                "signature": doc.signature,
                "digest": doc.digest,
                "made_at": doc.made_at,
            }
            for doc in docs
        ],
    )


def past_documents(conn: Connection, sealer: Sealer, node_id: str) -> dict[int, tuple[float, dict[str, Any]]]:
    """(when made, values) of the node's documents by generation, the present one included."""
    found = {}
    for table in (past, documents):
        for row in conn.execute(select(table).where(table.c.node_id == node_id)):
            text = sealer.open(row.sealed, node_id, "document").reveal()
            found[row.generation] = (row.made_at, json.loads(text).get("values", {}))
    return dict(sorted(found.items()))


def _change(sealer: Sealer, row: Any) -> LayerChange:
    return LayerChange(row.id, row.layer, row.name, row.at, row.by, row.why, _open(sealer, row))


def _open(sealer: Sealer, row: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sealer.open(row.sealed, f"{row.layer}/{row.name}", "values").reveal())
    return found


def from_row(sealer: Sealer, row: Any) -> StoredDocument:
    """A row as a document, opened."""
    text = sealer.open(row.sealed, row.node_id, "document").reveal()
    return StoredDocument(row.node_id, row.generation, text, row.signature, row.digest, row.made_at)
