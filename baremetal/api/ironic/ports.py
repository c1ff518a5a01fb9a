"""Ironic's ports: the NICs of nodes. A port's UUID is made of its MAC."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.api.http import Reply
from baremetal.api.ironic import fields, jsonpatch
from baremetal.api.ironic.common import (
    Asked,
    answer,
    links,
    missing,
    next_link,
    node_of,
    only,
    parties,
    route,
    typed,
)
from baremetal.api.ironic.version import Refusal
from baremetal.errors import UsageError
from baremetal.model.node import Port
from baremetal.store import nodes, ports
from baremetal.store.tables import ports as table
from baremetal.workflows import registry

TEXT, OBJECT, FLAG = (str,), (dict,), (bool,)
TYPES: dict[str, tuple[type, ...]] = {
    "uuid": TEXT,
    "address": TEXT,
    "node_uuid": TEXT,
    "node_ident": TEXT,
    "pxe_enabled": FLAG,
    "physical_network": TEXT,
    "portgroup_uuid": TEXT,
    "name": TEXT,
    "extra": OBJECT,
    "local_link_connection": OBJECT,
    "is_smartnic": FLAG,
    "description": TEXT,
    "vendor": TEXT,
    "category": TEXT,
}
COLUMNS = ("pxe_enabled", "physical_network", "name")
PATCHED = (*COLUMNS, "address", "extra", "local_link_connection", "is_smartnic", "description", "vendor", "category")
SHORT = ("uuid", "address", "links")
PAGING = ("limit", "marker", "sort_key", "sort_dir", "fields", "detail")
FILTERS = ("address", "node", "node_uuid", "portgroup", "shard", "name", "description_contains", "conductor_groups")


@route("GET", "/ports")
async def list_ports(asked: Asked) -> Reply:
    """By `address` or `node`, or all, by MAC."""
    asked.known_query(*FILTERS, *PAGING)
    return await _listed(asked, bool(asked.flag("detail")))


@route("GET", "/ports/detail")
async def list_detail(asked: Asked) -> Reply:
    """In full."""
    asked.known_query(*FILTERS, *PAGING)
    return await _listed(asked, True)


@route("GET", "/nodes/{}/ports")
@route("GET", "/nodes/{}/ports/detail")
async def of_node(asked: Asked, ident: str) -> Reply:
    """NICs of this node."""
    node = node_of(asked, ident)
    found = asked.con.store.read(lambda c: ports.of_node(c, node.id))
    detail = bool(asked.flag("detail")) or asked.scope["path"].rstrip("/").endswith("/detail")
    return answer(asked, {"ports": [_shown(asked, p, detail) for p in found]})


async def _listed(asked: Asked, detail: bool) -> Reply:
    query, limit = asked.query, asked.limit()
    ident = query.get("node") or query.get("node_uuid")
    if query.get("address"):
        mac = _mac(query["address"])
        port = asked.con.store.read(lambda c: ports.find(c, mac))
        found = [port] if port else []
    elif ident:
        node_id = node_of(asked, ident).id
        found = asked.con.store.read(lambda c: ports.of_node(c, node_id))
    elif query.get("portgroup"):
        found = []
    else:
        return await _every(asked, detail, limit)
    return answer(asked, {"ports": [_shown(asked, p, detail) for p in _seen(asked, found)]})


async def _every(asked: Asked, detail: bool, limit: int) -> Reply:
    """One page of all ports."""
    marker = asked.query.get("marker", "")
    after = (fields.mac_of(marker) or "~") if marker else ""
    query = sa.select(table).where(table.c.mac > after).order_by(table.c.mac).limit(limit + 1)
    found = await asked.con.store.fetch(lambda c: [ports.from_row(row) for row in c.execute(query)])
    page = _seen(asked, found[:limit])
    doc: dict[str, Any] = {"ports": [_shown(asked, p, detail) for p in page]}
    if len(found) > limit:
        doc["next"] = next_link(asked, fields.port_uuid(found[limit - 1].mac))
    return answer(asked, doc)


def _seen(asked: Asked, found: Iterable[Port]) -> list[Port]:
    """Those whose node this caller may see."""
    if asked.project is None:
        return list(found)
    owners = {port.node_id for port in found}
    mine = {n.id for n in asked.con.store.read(lambda c: nodes.many(c, list(owners))) if asked.project in parties(n)}
    return [port for port in found if port.node_id in mine]


def _shown(asked: Asked, port: Port, detail: bool) -> dict[str, Any]:
    if not detail and not asked.query.get("fields"):
        uuid = fields.port_uuid(port.mac)
        return {"uuid": uuid, "address": port.mac, "links": links(asked.base, f"ports/{uuid}")}
    return only(fields.port_doc(port, asked.base, asked.minor), asked.fields())


@route("POST", "/ports")
async def create(asked: Asked) -> Reply:
    """A NIC of a node."""
    body = await asked.body(what="port")
    typed("port", body, TYPES, ("address",))
    ident = body.get("node_uuid") or body.get("node_ident")
    if not ident:
        raise Refusal(400, "Schema error for port: 'node_uuid' is a required property")
    if body.get("portgroup_uuid"):
        raise Refusal(400, f"Portgroup {body['portgroup_uuid'][:80]} could not be found.")
    mac, now = _mac(body["address"]), asked.con.clock.now()
    extra = {k: body[k] for k in fields.PORT_KEPT if body.get(k)} | {"created_at": now}

    def write(conn: Connection) -> Port:
        node_id = _owner(conn, asked, ident)
        if ports.owner(conn, mac):
            raise Refusal(409, f"A port with MAC address {mac} already exists.")
        enabled = body.get("pxe_enabled")
        port = Port(mac, node_id, enabled is not False, None, body.get("physical_network"), body.get("name"), extra)
        ports.insert(conn, port)
        return port

    port = await asked.con.write(write)
    asked.con.shown(port.node_id)
    doc = fields.port_doc(port, asked.base, asked.minor)
    return answer(asked, doc, 201, f"ports/{doc['uuid']}")


def _owner(conn: Connection, asked: Asked, ident: str) -> str:
    """The id of the node a new port is for."""
    if asked.project is not None:
        node = nodes.find(conn, ident)
        found = node.id if node and parties(node)[0] == asked.project else None
    else:
        found = ident if nodes.fence(conn, ident) is not None else nodes.named(conn, ident)
    if found is None:
        raise missing(ident, 400)
    return found


@route("GET", "/ports/{}")
async def get(asked: Asked, ident: str) -> Reply:
    """By UUID, MAC or name."""
    doc = fields.port_doc(_port(asked, ident), asked.base, asked.minor)
    return answer(asked, only(doc, asked.fields()))


@route("PATCH", "/ports/{}")
async def patch(asked: Asked, ident: str) -> Reply:
    """JSON patch. Another `address` makes it another port: its UUID follows."""
    steps = await asked.body(list, "patch")
    jsonpatch.check(steps, PATCHED)
    port, now = _port(asked, ident, owned=True), asked.con.clock.now()
    before = fields.port_doc(port, "", 110)
    after = jsonpatch.apply(before, steps)
    changed = {k: after.get(k) for k in {*before, *after} if before.get(k) != after.get(k)}
    typed("patch", changed, TYPES)
    mac = _mac(after["address"]) if "address" in changed else port.mac
    extra = {**port.extra, **{k: v for k, v in changed.items() if k in fields.PORT_KEPT}, "updated_at": now}
    columns = {k: changed[k] for k in COLUMNS if k in changed}
    if "pxe_enabled" in columns:
        columns["pxe_enabled"] = columns["pxe_enabled"] is not False
    new = dataclasses.replace(port, mac=mac, extra=extra, **columns)  # type: ignore[arg-type]

    def write(conn: Connection) -> None:
        if mac != port.mac:
            if ports.owner(conn, mac):
                raise Refusal(409, f"A port with MAC address {mac} already exists.")
            ports.remove(conn, port.mac)
            ports.insert(conn, new)
        else:
            ports.set_fields(conn, mac, extra=extra, **columns)

    await asked.con.write(write)
    asked.con.shown(port.node_id)
    return answer(asked, fields.port_doc(new, asked.base, asked.minor))


@route("DELETE", "/ports/{}")
async def delete(asked: Asked, ident: str) -> Reply:
    """Forget the NIC."""
    port = _port(asked, ident, owned=True)
    await asked.con.write(lambda c: ports.remove(c, port.mac))
    asked.con.shown(port.node_id)
    return answer(asked, None, 204)


def _port(asked: Asked, ident: str, *, owned: bool = False) -> Port:
    """The port; with `owned` only for who owns its node: who leases it may look."""
    mac = fields.mac_of(ident)

    def read(conn: Connection) -> Port | None:
        return ports.find(conn, mac) if mac else ports.find_named(conn, ident)

    port = asked.con.store.read(read)
    if port is None or (asked.project is not None and not _seen(asked, [port])):
        raise Refusal(404, f"Port {ident[:80]} could not be found.")
    if owned and asked.project is not None:
        node = asked.con.store.read(lambda c: nodes.find(c, port.node_id))
        if node is None or parties(node)[0] != asked.project:
            raise Refusal(403, f"Only the owner of its node may change port {ident[:80]}.")
    return port


def _mac(text: str) -> str:
    try:
        return registry.checked_macs([text])[0]
    except UsageError:
        raise Refusal(400, f"Expected valid MAC address for address: {text[:80]}") from None
