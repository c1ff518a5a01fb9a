"""What a pass starts from: the node with its live boots and its order, read in one snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from baremetal.model.node import Node, Port
from baremetal.store import boots, nodes, orders, whole
from baremetal.store.boots import Boot
from baremetal.store.orders import OrderRow


@dataclass(frozen=True)
class Seen:
    """Everything a pass starts from, read in one snapshot."""

    node: Node
    boots: dict[str, Boot]
    order: OrderRow | None
    ports: list[Port] | None = None  # None: not read


def look(conn: Connection, node_id: str) -> Seen | None:
    """The node and what belongs to its running workflow; None when it was deleted."""
    if conn.dialect.name == "postgresql":
        found = whole.read(conn, [node_id]).get(node_id)
        return Seen(found.node, found.boots, found.order, found.ports) if found else None
    node = nodes.find(conn, node_id)
    if node is None:
        return None
    order = orders.get(conn, node.work.get("order"))
    return Seen(node, boots.live(conn, node_id), order)
