"""Ironic's allocations: a node chosen by class, traits and candidates, and held."""

from __future__ import annotations

import re
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.api.http import Reply
from baremetal.api.ironic import fields, jsonpatch
from baremetal.api.ironic.common import Asked, answer, links, node_of, only, page_of, route, typed, visible
from baremetal.api.ironic.traits import checked
from baremetal.api.ironic.version import Refusal
from baremetal.model.node import Node
from baremetal.store import allocations, nodes
from baremetal.store.tables import allocations as table
from baremetal.workflows import allocation

TEXT, LIST, OBJECT = (str,), (list,), (dict,)
TYPES: dict[str, tuple[type, ...]] = {
    "uuid": TEXT,
    "name": TEXT,
    "resource_class": TEXT,
    "traits": LIST,
    "candidate_nodes": LIST,
    "extra": OBJECT,
    "owner": TEXT,
    "node": TEXT,
}
FILTERS = ("node", "resource_class", "state", "owner", "fields", "limit", "marker", "sort_key", "sort_dir")
_NAME = re.compile(r"[A-Za-z0-9._~-]{1,255}\Z")
IDLE = ("available", "manageable", "enroll")


@route("POST", "/allocations", since=52)
async def create(asked: Asked) -> Reply:
    """Choose a node and hold it; the reason stands in last_error when there is none."""
    body = await asked.body(what="allocation")
    typed("allocation", body, TYPES)
    if not body.get("resource_class"):
        raise Refusal(400, "The resource_class field is mandatory when not backfilling")
    if body.get("name") and not _NAME.match(body["name"]):
        raise Refusal(400, f"Cannot create allocation with invalid name '{body['name'][:80]}'")
    if body.get("node"):
        raise Refusal(400, "Backfilling an allocation is not possible here: name the node in candidate_nodes")
    wanted: dict[str, Any] = {"name": body.get("name"), "resource_class": body["resource_class"]}
    wanted["traits"] = [checked(trait) for trait in body.get("traits") or []]
    now = asked.con.clock.now()

    def write(conn: Connection) -> dict[str, Any]:
        if wanted["name"] and allocations.find(conn, wanted["name"]):
            raise Refusal(409, f"An allocation with name {wanted['name']} already exists.")
        wanted["candidates"] = _candidates(conn, asked, body.get("candidate_nodes") or [])
        row = allocation.allocate(conn, {k: v for k, v in wanted.items() if v}, asked.who, now)
        more = {"extra": body.get("extra") or {}, "owner": body.get("owner") or asked.project}
        row = _change(conn, row, row["name"], {**row["asked"], **more}, now, body.get("uuid"))
        if row["node_id"]:
            _hold(conn, row, wanted["traits"], now)
        return row

    row = await asked.con.write(write)
    if row["node_id"]:
        asked.con.shown(row["node_id"])
    return answer(asked, _doc(asked, row), 201, f"allocations/{row['id']}")


def _candidates(conn: Connection, asked: Asked, given: list[Any]) -> list[str]:
    """Names or ids, each of a node that this caller may see; an owner without wishes gets its own nodes only."""
    found = [(str(ref), nodes.find(conn, str(ref))) for ref in given]
    lost = [ref for ref, node in found if node is None or not visible(asked, node)]
    if lost:
        raise Refusal(400, f"Nodes cannot be found: {', '.join(lost)[:300]}")
    if not given and asked.project is not None:
        return [n.id for n in nodes.page(conn, limit=None) if visible(asked, n)] or ["none"]
    return [node.id for _, node in found if node]


def _hold(conn: Connection, row: dict[str, Any], traits: list[str], now: float) -> None:
    node = nodes.get(conn, row["node_id"])
    info = {**(node.extra.get("ironic", {}).get("instance_info") or {}), "traits": traits}
    held = fields.keep(node, instance_uuid=row["id"], allocation_uuid=row["id"], instance_info=info)
    nodes.save(conn, node, held, now)


def _change(
    conn: Connection, row: dict[str, Any], name: str | None, kept: dict[str, Any], now: float, new_id: str | None = None
) -> dict[str, Any]:
    values = {"name": name, "asked": kept, "updated_at": now}
    if new_id:
        try:
            values["id"] = str(uuid.UUID(new_id))
        except ValueError:
            raise Refusal(400, f"Expected UUID for uuid: {new_id[:80]}") from None
    conn.execute(sa.update(table).where(table.c.id == row["id"]).values(values))
    return {**row, **values}


@route("GET", "/allocations", since=52)
async def every(asked: Asked) -> Reply:
    """All of them, oldest first."""
    asked.known_query(*FILTERS)
    query = asked.query
    wanted = node_of(asked, query["node"], 400).id if query.get("node") else None
    docs = []
    for row in asked.con.store.read(allocations.all_rows):
        doc = _doc(asked, row)
        if wanted is not None and doc["node_uuid"] != wanted:
            continue
        if _mine(asked, row) and all(doc[k] == query[k] for k in ("resource_class", "state", "owner") if k in query):
            docs.append(doc)
    page = page_of(docs, asked, "allocations")
    page["allocations"] = [only(doc, asked.fields()) for doc in page["allocations"]]
    return answer(asked, page)


@route("GET", "/allocations/{}", since=52)
async def get(asked: Asked, ident: str) -> Reply:
    """By UUID or name."""
    return answer(asked, only(_doc(asked, _row(asked, ident)), asked.fields()))


@route("PATCH", "/allocations/{}", since=57)
async def patch(asked: Asked, ident: str) -> Reply:
    """Name and extra."""
    steps = await asked.body(list, "patch")
    jsonpatch.check(steps, ("name", "extra"))
    row, now = _row(asked, ident), asked.con.clock.now()
    after = jsonpatch.apply(_doc(asked, row), steps)
    typed("patch", {k: after.get(k) for k in ("name", "extra")}, TYPES)

    def write(conn: Connection) -> dict[str, Any]:
        other = allocations.find(conn, after["name"]) if after["name"] else None
        if other and other["id"] != row["id"]:
            raise Refusal(409, f"An allocation with name {after['name']} already exists.")
        return _change(conn, row, after["name"], {**row["asked"], "extra": after["extra"] or {}}, now)

    return answer(asked, _doc(asked, await asked.con.write(write)))


@route("DELETE", "/allocations/{}", since=52)
async def delete(asked: Asked, ident: str) -> Reply:
    """Let the node go; refused while it is in use."""
    return await _delete(asked, _row(asked, ident))


@route("GET", "/nodes/{}/allocation", since=52)
async def of_node(asked: Asked, ident: str) -> Reply:
    """What holds this node."""
    return answer(asked, _doc(asked, _held(asked, node_of(asked, ident))))


@route("DELETE", "/nodes/{}/allocation", since=52)
async def delete_of_node(asked: Asked, ident: str) -> Reply:
    """Let it go."""
    return await _delete(asked, _held(asked, node_of(asked, ident)))


def _held(asked: Asked, node: Node) -> dict[str, Any]:
    for row in asked.con.store.read(allocations.all_rows):
        if row["node_id"] == node.id:
            return row
    raise Refusal(404, f"Allocation for node {node.id} was not found")


async def _delete(asked: Asked, row: dict[str, Any]) -> Reply:
    now = asked.con.clock.now()

    def write(conn: Connection) -> None:
        node = nodes.find(conn, row["node_id"]) if row["node_id"] else None
        if node and str(node.state) not in IDLE and not node.maintenance:
            raise Refusal(409, f"Cannot remove allocation {row['id']}: node {node.name} is {node.state}.")
        if node:
            nodes.save(conn, node, fields.keep(node, instance_uuid=None, allocation_uuid=None), now)
        allocations.delete(conn, row["id"])

    await asked.con.write(write)
    if row["node_id"]:
        asked.con.shown(row["node_id"])
    return answer(asked, None, 204)


def _row(asked: Asked, ident: str) -> dict[str, Any]:
    row = asked.con.store.read(lambda c: allocations.find(c, ident))
    if row is None or not _mine(asked, row):
        raise missing_allocation(ident)
    return row


def _mine(asked: Asked, row: dict[str, Any]) -> bool:
    return asked.project is None or row["asked"].get("owner") == asked.project


def missing_allocation(ident: str) -> Refusal:
    """There is no such allocation."""
    return Refusal(404, f"Allocation {ident[:80]} could not be found.")


def _doc(asked: Asked, row: dict[str, Any]) -> dict[str, Any]:
    kept = row["asked"]
    why = "; ".join(f"{e['node']}: {e['rule']}" for e in row["excluded"][:20]) or "there are no nodes"
    doc = {
        "uuid": row["id"],
        "name": row["name"],
        "state": row["state"],
        "node_uuid": row["node_id"],
        "resource_class": kept["resource_class"],
        "traits": kept["traits"],
        "candidate_nodes": kept["candidates"],
        "extra": kept.get("extra") or {},
        "owner": kept.get("owner"),
        "last_error": None if row["node_id"] else f"No available node fits: {why}",
        "created_at": fields.when(row["created_at"]),
        "updated_at": fields.when(row["updated_at"]),
        "links": links(asked.base, f"allocations/{row['id']}"),
    }
    if asked.minor < 60:
        del doc["owner"]
    return doc
