"""Ironic's /v1/nodes over our model: the records. States and verbs are in states.py."""

from __future__ import annotations

import dataclasses
import re
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.api.http import Reply
from baremetal.api.ironic import drivers, fields, filters, jsonpatch
from baremetal.api.ironic.common import (
    Asked,
    answer_bytes,
    missing,
    next_link,
    node_of,
    parties,
    route,
    stored,
    trusted,
    typed,
    visible,
)
from baremetal.api.ironic.shelf import Shape, Shelf
from baremetal.api.ironic.version import Refusal
from baremetal.errors import Refused
from baremetal.model.node import Node
from baremetal.secrets import Secret
from baremetal.store import nodes, secrets
from baremetal.store.tables import nodes as table
from baremetal.workflows import ids, registry

TEXT, OBJECT, FLAG = (str,), (dict,), (bool,)
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(fields.KEPT, TEXT),
    **dict.fromkeys(("name", "resource_class", "uuid"), TEXT),
    **dict.fromkeys(
        ("driver_info", "instance_info", "extra", "network_data", "properties", "raid_config", "target_raid_config"),
        OBJECT,
    ),
    **dict.fromkeys(
        ("automated_clean", "console_enabled", "disable_power_off", "protected", "retired", "maintenance"), FLAG
    ),
}
DIRECT = ("name", "resource_class", "properties")
FLAGS = ("protected", "retired", "maintenance")
# Members that a patch may touch.
PATCHED = frozenset({*fields.KEPT, *DIRECT, *FLAGS, "maintenance_reason"}) - {
    "console_enabled",
    "raid_config",
    "target_raid_config",
}
SORTED = {
    "uuid": "id",
    "name": "name",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "resource_class": "resource_class",
    "provision_state": "state",
    "power_state": "power",
    "provision_updated_at": "state_since",
    "id": "created_at",
}
# A warm page is joined on the event loop; one with more cold texts than this is made in a thread.
COLD = 25
_NAME = re.compile(r"[A-Za-z0-9._~-]{1,255}\Z")


@route("POST", "/nodes")
async def create(asked: Asked) -> Reply:
    """A node, enrolled; its BMC is asked at `manage`."""
    body = await asked.body(what="node")
    typed("node", body, {k: v for k, v in TYPES.items() if k not in FLAGS}, ("driver",))
    node_id = _uuid("uuid", body["uuid"]) if body.get("uuid") else ids.node_id()
    name = body.get("name")
    if name and not _NAME.match(name):
        raise Refusal(400, f"Cannot create node with invalid name '{name[:80]}'")
    url, password = drivers.bmc_of(body["driver"], body.get("driver_info") or {}, node_id)
    ours = {"name": name or node_id, "bmc_url": url, "manage": False}
    ours |= {k: body[k] for k in ("resource_class", "properties") if body.get(k) is not None}
    if password is not None:
        ours["password"] = password
    kept = {k: body[k] for k in fields.KEPT if body.get(k) is not None}
    if asked.project is not None:
        kept["owner"] = asked.project
    kept["driver_info"] = drivers.masked(kept.get("driver_info") or {})
    con, now = asked.con, asked.con.clock.now()

    def write(conn: Connection) -> Node:
        if nodes.fence(conn, node_id) is not None:
            raise Refusal(409, f"A node with UUID {node_id} already exists.")
        more: dict[str, Any] = {"node_id": node_id, "extra": {"ironic": kept}, "document": False}
        try:
            return registry.enroll(conn, con.world, con.signer, ours, asked.who, now, **more)
        except Refused:
            raise Refusal(409, f"A node with name {name} already exists.") from None

    node = await con.write(write)
    asked.scope["baremetal.node"] = node.name
    con.bell.ring()  # the boot plane hears of it with its first port
    text = asked.shelf.put(node, Shape(asked.base, asked.minor))
    return answer_bytes(asked, text, 201, f"nodes/{node.id}")


@route("GET", "/nodes")
async def list_short(asked: Asked) -> Reply:
    """Six fields, or those asked for, or all."""
    asked.known_query(*filters.NAMES, *filters.PAGING, "fields")
    wanted = asked.fields()
    if asked.flag("detail"):
        if wanted:
            raise Refusal(400, "Can't fetch a subset of fields with 'detail' set")
        return await _page(asked, None)
    if wanted:
        _known_fields(wanted, asked)
    return await _page(asked, wanted or tuple(n for n in fields.SHORT if n in fields.names(asked.minor)))


@route("GET", "/nodes/detail")
async def list_detail(asked: Asked) -> Reply:
    """All fields."""
    asked.known_query(*filters.NAMES, *filters.PAGING)
    return await _page(asked, None)


async def _page(asked: Asked, wanted: tuple[str, ...] | None) -> Reply:
    kept, shape, limit = asked.shelf, Shape(asked.base, asked.minor, wanted), asked.limit()
    test = filters.test_of(asked)
    direction = asked.query.get("sort_dir", "asc")
    if direction not in ("asc", "desc"):
        raise Refusal(400, f"Invalid sort direction: {direction[:40]}. Acceptable values are 'asc' or 'desc'")
    key = asked.query.get("sort_key", "name")
    if key not in SORTED:
        raise Refusal(400, f'The sort_key value "{key[:40]}" is an invalid field for sorting')
    marker = asked.query.get("marker")

    store = asked.con.store
    start = store.read(lambda c: nodes.find(c, marker)) if marker else None
    if marker and start is None:
        raise Refusal(404, f"Node {_uuid('marker', marker)} could not be found.")
    if (key, direction) != ("name", "asc"):
        after, order = start.id if start else None, (SORTED[key], direction)
        texts, following = await store.fetch(lambda c: _sorted(c, kept, shape, test, order, after, limit))
    else:
        rows = store.read(lambda c: kept.rows(c, start.name if start else "", limit))
        if kept.cold(rows, shape) > COLD or test is not None:
            async with kept.making:
                texts, following = await store.fetch(lambda c: kept.page(c, rows, limit, shape, test))
        else:
            texts, following = store.read(lambda c: kept.page(c, rows, limit, shape, test))
    body = b'{"nodes":[' + b",".join(texts) + b"]"
    if following:
        body += b',"next":"' + next_link(asked, following).encode() + b'"'
    return answer_bytes(asked, body + b"}")


def _sorted(
    conn: Connection, kept: Shelf, shape: Shape, test: Any, order: tuple[str, str], after: str | None, limit: int
) -> tuple[list[bytes], str | None]:
    """A page in another order than by name: ids are sorted by the database, texts come from the shelf."""
    column = table.c[order[0]]
    query = sa.select(table.c.id).order_by(column.desc() if order[1] == "desc" else column, table.c.id)
    every = [row[0] for row in conn.execute(query)]
    found: list[bytes] = []
    last = ""
    for node_id in every[every.index(after) + 1 if after in every else 0 :]:
        shown = kept.one(conn, node_id, shape)
        if shown is None or (test is not None and not test(shown[1])):
            continue
        if len(found) == limit:
            return found, last
        found.append(shown[0])
        last = node_id
    return found, None


@route("GET", "/nodes/{}")
async def get(asked: Asked, ident: str) -> Reply:
    """By UUID or name."""
    wanted = asked.fields()
    if wanted:
        _known_fields(wanted, asked)
    shape, kept = Shape(asked.base, asked.minor, wanted), asked.shelf
    found = asked.con.store.read(lambda c: kept.one(c, ident, shape))
    if found is None or asked.project not in (None, found[1]["owner"], found[1]["lessee"]):
        raise missing(ident)
    return answer_bytes(asked, found[0])


def _known_fields(names: tuple[str, ...], asked: Asked) -> None:
    known = fields.names(asked.minor)
    unknown = [n for n in names if n not in known]
    if unknown:
        raise Refusal(400, f"Field {', '.join(unknown)[:200]} is not a valid field.")


@route("PATCH", "/nodes/{}")
async def patch(asked: Asked, ident: str) -> Reply:
    """JSON patch: all of it or nothing; a node that somebody changes at the same moment is patched after that."""
    change = await asked.body(list, "patch")
    jsonpatch.check(change, PATCHED)
    con, now = asked.con, asked.con.clock.now()
    reset = asked.flag("reset_interfaces")

    def write(conn: Connection) -> tuple[Node, bool]:
        node = stored(conn, ident)
        if not visible(asked, node) or (asked.project is not None and parties(node)[0] != asked.project):
            raise missing(ident)
        before = fields.node_doc(node, "", 110, bare=True)
        after = jsonpatch.apply(before, change)
        changed = {k: after.get(k) for k in {*before, *after} if before.get(k) != after.get(k)}
        if reset:
            changed |= dict.fromkeys(fields.INTERFACES)
        return _take(conn, asked, node, changed, after, now)

    node, due = await con.write(write)
    if due:
        con.touched(node.id)
    else:
        con.bell.ring()
    return answer_bytes(asked, asked.shelf.put(node, Shape(asked.base, asked.minor)))


def _take(
    conn: Connection, asked: Asked, node: Node, changed: dict[str, Any], after: dict[str, Any], now: float
) -> tuple[Node, bool]:
    """(node as stored, must a pass look at it) after what the patch changed."""
    if set(changed) & {"driver", "uuid"} and not after.get("driver"):
        raise Refusal(400, "Schema error for patch: 'driver' is a required property")
    typed("patch", changed, TYPES | {"maintenance_reason": TEXT})
    _instance(changed, node)
    kept = {k: v for k, v in changed.items() if k in fields.KEPT}
    new = node
    if "driver_info" in changed or "driver" in changed:
        url, password = drivers.bmc_of(str(after["driver"]), after.get("driver_info") or {}, node.id)
        new = registry.with_fields(new, {"bmc_url": url})
        if password is None and not trusted(asked.scope):
            registry.check_moved(conn, node, url)
        kept["driver_info"] = drivers.masked(after.get("driver_info") or {})
        if password is not None:
            secrets.put(conn, asked.con.world.operator, node.id, secrets.BMC_PASSWORD, Secret(password), now)
    if kept:
        new = fields.keep(new, **kept)
    if "name" in changed:
        new = dataclasses.replace(new, name=_free_name(conn, changed["name"], node))
    if "resource_class" in changed:
        new = dataclasses.replace(new, resource_class=str(changed["resource_class"] or "baremetal"))
    if "properties" in changed:
        bmc = {"bmc": new.properties["bmc"]} if "bmc" in new.properties else {}
        new = dataclasses.replace(new, properties={**(changed["properties"] or {}), **bmc})
    for flag in ("protected", "retired"):
        if flag in changed:
            new = dataclasses.replace(new, **{flag: bool(changed[flag])})  # type: ignore[arg-type]
    if {"maintenance", "maintenance_reason"} & set(changed):
        reason = str(after.get("maintenance_reason") or "set over the API") if after.get("maintenance") else None
        new = dataclasses.replace(new, maintenance=reason)
    due = {"driver", "driver_info", "name", "maintenance", "properties"} & set(changed)
    return nodes.save(conn, node, new, now), bool(due)


def _instance(changed: dict[str, Any], node: Node) -> None:
    """An instance is put on a node that has none."""
    wanted = changed.get("instance_uuid")
    if wanted:
        _uuid("instance_uuid", wanted)
        if node.extra.get("ironic", {}).get("instance_uuid"):
            raise Refusal(409, f"Node {node.id} is associated with an instance already.")


def _free_name(conn: Connection, name: str | None, node: Node) -> str:
    if not name:
        return node.id
    if not _NAME.match(name):
        raise Refusal(400, f"Node {node.id}: Cannot change name to invalid name '{name[:80]}'")
    if nodes.find(conn, name) not in (None, node):
        raise Refusal(409, f"A node with name {name} already exists.")
    return registry.checked_name(name)


def _uuid(what: str, text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Refusal(400, f"Expected UUID for {what}: {text[:80]}") from None


@route("DELETE", "/nodes/{}")
async def delete(asked: Asked, ident: str) -> Reply:
    """Ironic's rule on states."""
    now = asked.con.clock.now()
    node = node_of(asked, ident)
    if asked.project is not None and parties(node)[0] != asked.project:
        raise Refusal(403, f"Only the owner may delete node {ident[:80]}.")
    await asked.con.write(lambda c: registry.delete(c, node.id, asked.who, now, force=bool(node.maintenance)))
    asked.shelf.drop(node.id)
    asked.con.touched(node.id)
    return answer_bytes(asked, b"", 204)
