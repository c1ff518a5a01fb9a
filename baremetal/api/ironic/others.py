"""The rest of /v1: versions, ports, allocations, drivers, conductors, and lists that are empty here."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.ironic import fields, version
from baremetal.api.ironic.common import Asked, answer, ask_of, base_of, body_of
from baremetal.api.ironic.drivers import DRIVERS
from baremetal.api.ironic.version import Refusal
from baremetal.store import allocations, nodes, ports
from baremetal.workflows import allocation, registry

root = APIRouter(tags=["ironic"], include_in_schema=False)
router = APIRouter(tags=["ironic"], include_in_schema=False)

EMPTY_LISTS = {
    "chassis": "chassis",
    "portgroups": "portgroups",
    "deploy_templates": "deploy_templates",
    "runbooks": "runbooks",
    "shards": "shards",
    "inspection_rules": "inspection_rules",
}


def _v1(base: str) -> dict[str, Any]:
    return {
        "id": "v1",
        "links": [{"href": f"{base}/v1/", "rel": "self"}],
        "status": "CURRENT",
        "min_version": version.text_of(version.MINIMUM),
        "version": version.text_of(version.MAXIMUM),
    }


@root.get("/")
async def versions(request: Request) -> Response:
    """Version discovery: before authentication."""
    doc = {
        "name": "OpenStack Ironic API",
        "description": "baremetal, speaking Ironic's API",
        "default_version": _v1(base_of(request)),
        "versions": [_v1(base_of(request))],
    }
    return answer(Asked(request.app.state.conductor, version.MINIMUM, ""), doc)


@root.get("/v1")
@root.get("/v1/")
async def v1(request: Request) -> Response:
    """What there is."""
    asked, base = ask_of(request), base_of(request)
    names = ("nodes", "ports", "portgroups", "chassis", "drivers", "allocations", "conductors", "lookup", "heartbeat")
    links = {name: [{"href": f"{base}/v1/{name}/", "rel": "self"}] for name in names}
    return answer(asked, {"id": "v1", "version": _v1(base), "links": _v1(base)["links"], "media_types": [], **links})


# -- ports ----------------------------------------------------------------------


@router.get("/ports")
@router.get("/ports/detail")
async def list_ports(request: Request) -> Response:
    """By `address` or `node`, or all."""
    asked, query, base = ask_of(request), request.query_params, base_of(request)

    def read(conn: Connection) -> list[dict[str, Any]]:
        if query.get("address"):
            owner = ports.owner(conn, query["address"])
            found = [p for p in ports.of_node(conn, owner) if p.mac == query["address"].lower()] if owner else []
        elif query.get("node") or query.get("node_uuid"):
            node = nodes.find(conn, query.get("node") or query["node_uuid"])
            if node is None:
                raise Refusal(404, f"Node {query.get('node', '')[:80]} could not be found.")
            found = ports.of_node(conn, node.id)
        else:
            found = [p for mine in ports.of_nodes(conn).values() for p in mine]
        return [fields.port_doc(p, base, 0.0) for p in found]

    return answer(asked, {"ports": await asked.con.store.fetch(read)})


@router.post("/ports", status_code=201)
async def create_port(request: Request) -> Response:
    """A NIC of a node."""
    asked, body = ask_of(request), await body_of(request)
    if not body.get("address") or not body.get("node_uuid"):
        raise Refusal(400, "Mandatory parameters: address, node_uuid")
    mac = registry.checked_macs([body["address"]])[0]

    def write(conn: Connection) -> None:
        node = nodes.find(conn, str(body["node_uuid"]))
        if node is None:
            raise Refusal(400, f"Node {str(body['node_uuid'])[:80]} could not be found.")
        if ports.owner(conn, mac):
            raise Refusal(409, f"A port with MAC address {mac} already exists.")
        ports.add(conn, node.id, [mac], body.get("physical_network"))
        ports.set_fields(conn, mac, pxe_enabled=bool(body.get("pxe_enabled", True)), name=body.get("name"))

    await asked.con.write(write, touches=[str(body["node_uuid"])])
    return answer(asked, _port(asked, mac, base_of(request)), 201)


@router.get("/ports/{ident}")
async def get_port(ident: str, request: Request) -> Response:
    """By UUID or MAC."""
    asked = ask_of(request)
    return answer(asked, _port(asked, fields.mac_of(ident) or "", base_of(request)))


@router.patch("/ports/{ident}")
async def patch_port(ident: str, request: Request) -> Response:
    """pxe_enabled, physical_network, name."""
    asked, steps = ask_of(request), await body_of(request, kind=list)
    mac = fields.mac_of(ident) or ""
    doc = _port(asked, mac, base_of(request))
    values: dict[str, Any] = {}
    for step in steps:
        key = str(step.get("path", "")).lstrip("/") if isinstance(step, dict) else ""
        if key in ("pxe_enabled", "physical_network", "name"):
            values[key] = step.get("value") if step.get("op") != "remove" else None
        elif not key.startswith(("extra", "local_link_connection", "internal_info")):
            raise Refusal(400, f"Attribute {key[:80]} can't be changed")
    if values:
        await asked.con.write(lambda c: ports.set_fields(c, mac, **values), touches=[doc["node_uuid"]])
    return answer(asked, _port(asked, mac, base_of(request)))


@router.delete("/ports/{ident}", status_code=204)
async def delete_port(ident: str, request: Request) -> Response:
    """Forget the NIC."""
    asked = ask_of(request)
    mac = fields.mac_of(ident) or ""
    doc = _port(asked, mac, base_of(request))
    await asked.con.write(lambda c: ports.remove(c, mac), touches=[doc["node_uuid"]])
    return answer(asked, None, 204)


def _port(asked: Asked, mac: str, base: str) -> dict[str, Any]:
    def read(conn: Connection) -> dict[str, Any] | None:
        owner = ports.owner(conn, mac) if mac else None
        found = [p for p in ports.of_node(conn, owner) if p.mac == mac] if owner else []
        return fields.port_doc(found[0], base, 0.0) if found else None

    doc = asked.con.store.read(read)
    if doc is None:
        raise Refusal(404, f"Port {mac or '?'} could not be found.")
    return doc


# -- allocations -------------------------------------------------------------------


@router.post("/allocations", status_code=201)
async def create_allocation(request: Request) -> Response:
    """Choose a node and hold it; the reason stands in last_error when there is none."""
    asked, body = ask_of(request), await body_of(request)
    now = asked.con.clock.now()
    wanted = {k: body[k] for k in ("name", "resource_class", "traits") if body.get(k)}
    if body.get("candidate_nodes"):
        wanted["candidates"] = body["candidate_nodes"]

    def write(conn: Connection) -> dict[str, Any]:
        row = allocation.allocate(conn, wanted, asked.who, now)
        if row["node_id"]:
            node = nodes.get(conn, row["node_id"])
            info = {**(node.extra.get("ironic", {}).get("instance_info") or {}), "traits": wanted.get("traits", [])}
            held = fields.keep(node, instance_uuid=row["id"], allocation_uuid=row["id"], instance_info=info)
            nodes.save(conn, node, held, now)
        return row

    row = await asked.con.write(write)
    return answer(asked, _allocation(row, base_of(request)), 201)


@router.get("/allocations")
async def list_allocations(request: Request) -> Response:
    """All of them."""
    asked = ask_of(request)
    rows = asked.con.store.read(allocations.all_rows)
    return answer(asked, {"allocations": [_allocation(row, base_of(request)) for row in rows]})


@router.get("/allocations/{ident}")
async def get_allocation(ident: str, request: Request) -> Response:
    """By UUID or name."""
    asked = ask_of(request)
    row = asked.con.store.read(lambda c: allocations.find(c, ident))
    if row is None:
        raise Refusal(404, f"Allocation {ident[:80]} could not be found.")
    return answer(asked, _allocation(row, base_of(request)))


@router.delete("/allocations/{ident}", status_code=204)
async def delete_allocation(ident: str, request: Request) -> Response:
    """Let the node go; refused while it is in use."""
    asked = ask_of(request)
    now = asked.con.clock.now()

    def write(conn: Connection) -> None:
        row = allocations.find(conn, ident)
        if row is None:
            raise Refusal(404, f"Allocation {ident[:80]} could not be found.")
        node = nodes.find(conn, row["node_id"]) if row["node_id"] else None
        if node and str(node.state) not in ("available", "manageable", "enroll") and not node.maintenance:
            raise Refusal(409, f"Cannot remove allocation {ident[:80]}: node {node.name} is {node.state}.")
        if node:
            nodes.save(conn, node, fields.keep(node, instance_uuid=None, allocation_uuid=None), now)
        allocations.delete(conn, row["id"])

    await asked.con.write(write)
    return answer(asked, None, 204)


def _allocation(row: dict[str, Any], base: str) -> dict[str, Any]:
    asked = row["asked"]
    why = "; ".join(f"{e['node']}: {e['rule']}" for e in row["excluded"][:20]) or "there are no nodes"
    return {
        "uuid": row["id"],
        "name": row["name"],
        "state": row["state"],
        "node_uuid": row["node_id"],
        "resource_class": asked["resource_class"],
        "traits": asked["traits"],
        "candidate_nodes": asked["candidates"],
        "extra": {},
        "owner": None,
        "last_error": None if row["node_id"] else f"No available node fits: {why}",
        "created_at": fields.when(row["created_at"]),
        "updated_at": fields.when(row["updated_at"]),
        "links": [{"href": f"{base}/v1/allocations/{row['id']}", "rel": "self"}],
    }


# -- drivers and the rest ---------------------------------------------------------------


@router.get("/drivers")
async def drivers(request: Request) -> Response:
    """What BMCs we speak to."""
    asked, base = ask_of(request), base_of(request)
    return answer(asked, {"drivers": [_driver(name, base) for name in DRIVERS]})


@router.get("/drivers/{name}")
async def driver(name: str, request: Request) -> Response:
    """One of them."""
    asked = ask_of(request)
    if name not in DRIVERS:
        raise Refusal(404, f"The driver '{name[:80]}' is unknown.")
    return answer(asked, _driver(name, base_of(request)))


@router.get("/drivers/{name}/properties")
async def driver_properties(name: str, request: Request) -> Response:
    """Keys of driver_info."""
    asked = ask_of(request)
    prefix = {"ipmi": "ipmi", "redfish": "redfish"}.get(name)
    keys = {f"{prefix}_{k}": f"BMC {k}" for k in ("address", "username", "password", "port")} if prefix else {}
    return answer(asked, keys)


def _driver(name: str, base: str) -> dict[str, Any]:
    plane = DRIVERS[name][0]
    doc: dict[str, Any] = {"name": name, "hosts": ["baremetal"], "type": "dynamic"}
    for key, default in fields.INTERFACES.items():
        kind = key.removesuffix("_interface")
        doc[f"default_{kind}_interface"] = default or plane
        doc[f"enabled_{kind}_interfaces"] = [default or plane]
    doc["links"] = [{"href": f"{base}/v1/drivers/{name}", "rel": "self"}]
    doc["properties"] = [{"href": f"{base}/v1/drivers/{name}/properties", "rel": "self"}]
    return doc


@router.get("/conductors")
async def conductors(request: Request) -> Response:
    """This server."""
    asked = ask_of(request)
    return answer(asked, {"conductors": [_conductor(asked, base_of(request))]})


@router.get("/conductors/{name}")
async def one_conductor(name: str, request: Request) -> Response:
    """This server."""
    asked = ask_of(request)
    if name != "baremetal":
        raise Refusal(404, f"Conductor {name[:80]} could not be found.")
    return answer(asked, {**_conductor(asked, base_of(request)), "drivers": list(DRIVERS)})


def _conductor(asked: Asked, base: str) -> dict[str, Any]:
    now = fields.when(asked.con.clock.now())
    links = [{"href": f"{base}/v1/conductors/baremetal", "rel": "self"}]
    times = {"created_at": fields.when(asked.con.started_at), "updated_at": now}
    return {"hostname": "baremetal", "conductor_group": "", "alive": True, **times, "links": links}


@router.get("/{name}")
async def nothing(name: str, request: Request) -> Response:
    """Lists that are empty here."""
    asked = ask_of(request)
    if name not in EMPTY_LISTS:
        raise Refusal(404, f"/v1/{name[:80]} is not there")
    return answer(asked, {EMPTY_LISTS[name]: []})
