"""Ports: the NICs of nodes, found by MAC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.errors import Refused
from baremetal.model.node import Port
from baremetal.store import prepared
from baremetal.store.tables import nodes, ports

_OF_NODE = sa.select(ports).where(ports.c.node_id == sa.bindparam("node")).order_by(ports.c.mac)
_BY_MAC = ports.c.mac == sa.bindparam("k_mac")
_ONE = sa.select(ports).where(ports.c.mac == sa.bindparam("mac"))
_OWNER = sa.select(ports.c.node_id).where(ports.c.mac == sa.bindparam("mac"))


def from_row(row: Any) -> Port:
    """A row as a port."""
    doc = row._mapping
    return Port(
        **{
            name: doc[name]
            for name in ("mac", "node_id", "pxe_enabled", "address", "physical_network", "name", "extra")
        }
    )


def of_node(conn: Connection, node_id: str) -> list[Port]:
    """The node's ports, by MAC."""
    return [from_row(row) for row in conn.execute(_OF_NODE, {"node": node_id})]


def find(conn: Connection, mac: str) -> Port | None:
    """The port with this MAC."""
    row = conn.execute(_ONE, {"mac": mac.lower()}).first()
    return from_row(row) if row else None


def of_nodes(conn: Connection, ids: Sequence[str] | None = None) -> dict[str, list[Port]]:
    """Ports by node id; of all nodes when no ids are given."""
    query = sa.select(ports).order_by(ports.c.mac)
    if ids is not None:
        query = query.where(ports.c.node_id.in_(list(ids)))
    found: dict[str, list[Port]] = {}
    for row in conn.execute(query):
        found.setdefault(row.node_id, []).append(from_row(row))
    return found


def owner(conn: Connection, mac: str) -> str | None:
    """The id of the node that has this MAC."""
    return conn.execute(_OWNER, {"mac": mac.lower()}).scalar()


def add(conn: Connection, node_id: str, macs: Iterable[str], physical_network: str | None = None) -> list[str]:
    """Give the node these MACs too; refused when another node has one. Returns the new ones."""
    macs = list(macs)
    check_free(conn, node_id, macs)
    new = []
    for mac in macs:
        holder = owner(conn, mac)
        if holder == node_id:
            continue
        insert(conn, Port(mac, node_id, physical_network=physical_network))
        new.append(mac)
    return new


def insert(conn: Connection, port: Port) -> None:
    """A new port; its MAC must be free."""
    conn.execute(prepared.insert(ports), vars(port))


def find_named(conn: Connection, name: str) -> Port | None:
    """The first port of this name."""
    row = conn.execute(sa.select(ports).where(ports.c.name == name).limit(1)).first()
    return from_row(row) if row else None


def check_free(conn: Connection, node_id: str, macs: Iterable[str]) -> None:
    """Refused when one of these MACs belongs to another node."""
    for mac in macs:
        holder = owner(conn, mac)
        if holder not in (None, node_id):
            name = conn.execute(sa.select(nodes.c.name).where(nodes.c.id == holder)).scalar()
            raise Refused(
                f"MAC {mac} belongs to {name} already",
                fix=f"a typing error, or the NIC moved: baremetal node show {name}",
            )


def replace(conn: Connection, node_id: str, macs: Sequence[str]) -> None:
    """The node has exactly these MACs."""
    conn.execute(ports.delete().where(ports.c.node_id == node_id, ports.c.mac.not_in(list(macs))))
    add(conn, node_id, macs)


def set_fields(conn: Connection, mac: str, **columns: Any) -> None:
    """Change a port's columns."""
    prepared.update(conn, ports, _BY_MAC, {"mac": mac}, columns, "set")


def remove(conn: Connection, mac: str) -> bool:
    """Forget one port."""
    return conn.execute(ports.delete().where(ports.c.mac == mac)).rowcount == 1
