"""Nodes with all that belongs to them, read from PostgreSQL with one statement.

A statement to PostgreSQL costs a message there and back, and a pass over a node is made of them. SQLite is a function
call away: there the callers ask one query after the other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.model.node import Node, Port
from baremetal.store import boots, metadata, nodes, orders, ports
from baremetal.store.boots import Boot
from baremetal.store.metadata import StoredDocument
from baremetal.store.orders import OrderRow
from baremetal.store.seal import Sealer

# The order is the one that the node's notebook names; a document is read only where a deployed system runs.
_ONE_STATEMENT = sa.text("""
SELECT row_to_json(n) AS node,
  (SELECT json_agg(b ORDER BY b.created_at) FROM boots b WHERE b.node_id = n.id AND b.ended_at IS NULL) AS boots,
  (SELECT row_to_json(o) FROM orders o WHERE o.id = n.work->>'order') AS "order",
  (SELECT json_agg(p ORDER BY p.mac) FROM ports p WHERE p.node_id = n.id) AS ports,
  (SELECT row_to_json(d) FROM metadata_documents d WHERE d.node_id = n.id AND EXISTS (
     SELECT 1 FROM boots b WHERE b.node_id = n.id AND b.purpose = 'instance' AND b.ended_at IS NULL)) AS document
FROM nodes n WHERE n.id = ANY(:ids)
""")


@dataclass(frozen=True)
class Whole:
    """`boots`: the live ones by purpose. `order`: the one in the agent's hands, if any."""

    node: Node
    boots: dict[str, Boot]
    order: OrderRow | None
    ports: list[Port]
    sealed: Any = None  # the row of its document

    def document(self, sealer: Sealer) -> StoredDocument | None:
        """What its deployed system is told, opened; None when none runs."""
        return metadata.from_row(sealer, self.sealed) if self.sealed else None


class _Row:
    """A JSON object as the row it was."""

    def __init__(self, doc: dict[str, Any]) -> None:
        self._mapping = doc

    def __getattr__(self, name: str) -> Any:
        return self._mapping[name]


def read(conn: Connection, ids: Collection[str]) -> dict[str, Whole]:
    """These nodes, those that exist, by id. PostgreSQL only."""
    return {row.node["id"]: _whole(row) for row in conn.execute(_ONE_STATEMENT, {"ids": list(ids)})}


def _whole(row: Any) -> Whole:
    live = [boots.from_row(_Row(doc)) for doc in row.boots or ()]
    return Whole(
        nodes.from_row(_Row(row.node)),
        {boot.purpose: boot for boot in live},
        orders.from_row(_Row(row.order)) if row.order else None,
        [ports.from_row(_Row(doc)) for doc in row.ports or ()],
        _Row(row.document) if row.document else None,
    )
