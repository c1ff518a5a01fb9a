"""Metadata: layers as operators wrote them, and the signed document of each node. Sealed at rest."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.engine import Connection

from baremetal.secrets import Secret
from baremetal.store.seal import Sealer
from baremetal.store.tables import metadata_documents as documents
from baremetal.store.tables import metadata_layers as layers

# From the most general to the most special; later ones win.
LAYERS = ("defaults", "site", "role", "node")


_DOCUMENT = select(documents).where(documents.c.node_id == bindparam("node"))


@dataclass(frozen=True)
class StoredDocument:
    """The exact text served, its generation and signature (base64). `digest` is over the values."""

    node_id: str
    generation: int
    text: str
    signature: str
    digest: str
    made_at: float


def get_layer(conn: Connection, sealer: Sealer, layer: str, name: str = "") -> tuple[dict[str, Any], float]:
    """(values, when written) of one layer; empty when it was never written."""
    where = (layers.c.layer == layer) & (layers.c.name == name)
    row = conn.execute(select(layers).where(where)).first()
    return (_open(sealer, row), row.updated_at) if row else ({}, 0.0)


def put_layer(conn: Connection, sealer: Sealer, layer: str, name: str, values: dict[str, Any], now: float) -> None:
    """Replace one layer."""
    conn.execute(delete(layers).where((layers.c.layer == layer) & (layers.c.name == name)))
    sealed = sealer.seal(Secret(json.dumps(values)), f"{layer}/{name}", "values")
    conn.execute(insert(layers).values(layer=layer, name=name, sealed=sealed, updated_at=now))


def shared_layers(conn: Connection, sealer: Sealer) -> list[dict[str, Any]]:
    """Values of every layer that belongs to no single node."""
    return [_open(sealer, row) for row in conn.execute(select(layers).where(layers.c.layer != "node"))]


def forget_layer(conn: Connection, layer: str, name: str) -> None:
    """Drop one layer."""
    conn.execute(delete(layers).where((layers.c.layer == layer) & (layers.c.name == name)))


def get_document(conn: Connection, sealer: Sealer, node_id: str) -> StoredDocument | None:
    """The node's document."""
    row = conn.execute(_DOCUMENT, {"node": node_id}).first()
    return _document(sealer, row) if row else None


def all_documents(conn: Connection, sealer: Sealer, node_ids: Collection[str]) -> dict[str, StoredDocument]:
    """The documents of these nodes."""
    wanted = set(node_ids)
    if not wanted:
        return {}
    return {row.node_id: _document(sealer, row) for row in conn.execute(select(documents)) if row.node_id in wanted}


def put_document(conn: Connection, sealer: Sealer, doc: StoredDocument) -> None:
    """Replace the node's document."""
    conn.execute(delete(documents).where(documents.c.node_id == doc.node_id))
    sealed = sealer.seal(Secret(doc.text), doc.node_id, "document")
    conn.execute(
        insert(documents).values(
            node_id=doc.node_id,
            generation=doc.generation,
            sealed=sealed,
            signature=doc.signature,
            digest=doc.digest,
            made_at=doc.made_at,
        )
    )


def _open(sealer: Sealer, row: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sealer.open(row.sealed, f"{row.layer}/{row.name}", "values").reveal())
    return found


def _document(sealer: Sealer, row: Any) -> StoredDocument:
    text = sealer.open(row.sealed, row.node_id, "document").reveal()
    return StoredDocument(row.node_id, row.generation, text, row.signature, row.digest, row.made_at)
