"""What hangs on a node: traits, history, inventory, and parts that are empty here (VIFs, BIOS settings …)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection

from baremetal.api.http import Reply
from baremetal.api.ironic import fields
from baremetal.api.ironic.common import Asked, answer, links, node_of, page_of, route, stored, typed
from baremetal.api.ironic.version import Refusal
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node
from baremetal.store import events, inventories
from baremetal.workflows import registry

_CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]{1,248}\Z")
_STANDARD = re.compile(r"(HW|STORAGE|COMPUTE|MISC|OWNER)_[A-Z0-9_]{1,248}\Z")
TRAITS_MOST = 50
HISTORY = 300


@route("GET", "/nodes/{}/traits", since=37)
async def get_traits(asked: Asked, ident: str) -> Reply:
    """All of them."""
    return answer(asked, {"traits": list(node_of(asked, ident).traits)})


@route("PUT", "/nodes/{}/traits", since=37)
async def put_traits(asked: Asked, ident: str) -> Reply:
    """Replace them."""
    body = await asked.body()
    typed("body", body, {"traits": (list,)}, ("traits",))
    return await _traits(asked, ident, lambda _: [checked(trait) for trait in body["traits"]])


@route("PUT", "/nodes/{}/traits/{}", since=37)
async def put_trait(asked: Asked, ident: str, trait: str) -> Reply:
    """One more."""
    return await _traits(asked, ident, lambda node: [*node.traits, checked(trait)], f"nodes/{ident}/traits/{trait}")


@route("DELETE", "/nodes/{}/traits", since=37)
async def delete_traits(asked: Asked, ident: str) -> Reply:
    """None."""
    return await _traits(asked, ident, lambda _: [])


@route("DELETE", "/nodes/{}/traits/{}", since=37)
async def delete_trait(asked: Asked, ident: str, trait: str) -> Reply:
    """One less."""

    def without(node: Node) -> list[str]:
        if trait not in node.traits:
            raise Refusal(404, f"Node {node.id} doesn't have a trait '{trait[:80]}'")
        return [t for t in node.traits if t != trait]

    return await _traits(asked, ident, without)


async def _traits(asked: Asked, ident: str, new: Callable[[Node], list[str]], location: str = "") -> Reply:
    now, con = asked.con.clock.now(), asked.con
    node_id = node_of(asked, ident).id

    def write(conn: Connection) -> None:
        traits = new(stored(conn, node_id))
        if len(set(traits)) > TRAITS_MOST:
            raise Refusal(400, f"Error setting traits: a node has at most {TRAITS_MOST}.")
        registry.change(conn, con.world, con.signer, node_id, {"traits": traits}, now)

    await con.write(write)
    con.shown(node_id)
    return answer(asked, None, 204, location)


def checked(trait: Any) -> str:
    """CUSTOM_… or one of the standard families."""
    if isinstance(trait, str) and (_CUSTOM.match(trait) or _STANDARD.match(trait)):
        return trait
    raise Refusal(400, f"Schema error for body: {str(trait)[:80]!r} does not match '^CUSTOM_[A-Z0-9_]+$'")


@route("GET", "/nodes/{}/inventory", since=81)
async def inventory(asked: Asked, ident: str) -> Reply:
    """What the last inspection found."""
    node = node_of(asked, ident)
    found = asked.con.store.read(lambda c: inventories.get(c, node.id))
    if found is None:
        raise Refusal(404, f"Node inventory record for node {node.id} could not be found.")
    return answer(asked, {"inventory": found[1], "plugin_data": {}})


@route("GET", "/nodes/{}/history", since=78)
async def history(asked: Asked, ident: str) -> Reply:
    """Verbs, states and faults."""
    node = node_of(asked, ident)
    detail = bool(asked.flag("detail"))
    kinds = [str(k) for k in (Kind.STATE, Kind.FAULT, Kind.VERB)]
    told = asked.con.store.read(lambda c: events.of_node(c, node.id, kinds=kinds, limit=HISTORY))
    return answer(asked, page_of([_entry(asked, node, e, detail) for e in told], asked, "history"))


@route("GET", "/nodes/{}/history/{}", since=78)
async def history_entry(asked: Asked, ident: str, event_id: str) -> Reply:
    """One entry in full."""
    node = node_of(asked, ident)
    told = asked.con.store.read(lambda c: events.of_node(c, node.id, limit=HISTORY * 4))
    for event in told:
        if event.id == event_id:
            return answer(asked, _entry(asked, node, event, True))
    raise Refusal(404, f"Node history record {event_id[:80]} could not be found.")


def _entry(asked: Asked, node: Node, event: Event, detail: bool) -> dict[str, Any]:
    what = event.data.get("brief") or event.data.get("from") or ""
    doc: dict[str, Any] = {
        "uuid": event.id,
        "created_at": fields.when(event.time),
        "severity": "ERROR" if event.kind is Kind.FAULT else "INFO",
        "event": f"{event.stage}: {what}".rstrip(": "),
        "links": links(asked.base, f"nodes/{node.id}/history/{event.id}"),
    }
    if detail:
        doc |= {"event_type": str(event.kind), "user": event.source, "conductor": "baremetal"}
    return doc


@route("GET", "/nodes/{}/vifs", since=28)
async def vifs(asked: Asked, ident: str) -> Reply:
    """The noop network has none."""
    node_of(asked, ident)
    return answer(asked, {"vifs": []})


@route("POST", "/nodes/{}/vifs", since=28)
async def attach_vif(asked: Asked, ident: str) -> Reply:
    """As the noop network does: nothing, successfully."""
    node_of(asked, ident)
    body = await asked.body()
    if not body.get("id"):
        raise Refusal(400, "Schema error for vif: 'id' is a required property")
    return answer(asked, None, 204)


@route("DELETE", "/nodes/{}/vifs/{}", since=28)
async def detach_vif(asked: Asked, ident: str, vif: str) -> Reply:
    """The same."""
    node_of(asked, ident)
    return answer(asked, None, 204)


def _empty(pattern: str, name: str, since: int) -> None:
    """A list below a node that is empty here."""

    @route("GET", pattern, since=since)
    async def nothing(asked: Asked, ident: str) -> Reply:
        node_of(asked, ident)
        return answer(asked, {name: []})


for _pattern, _name, _since in (
    ("/nodes/{}/bios", "bios", 40),
    ("/nodes/{}/firmware", "firmware", 86),
    ("/nodes/{}/portgroups", "portgroups", 24),
    ("/nodes/{}/volume/connectors", "connectors", 32),
    ("/nodes/{}/volume/targets", "targets", 32),
    ("/nodes/{}/children", "children", 83),
):
    _empty(_pattern, _name, _since)


@route("GET", "/nodes/{}/bios/{}", since=40)
async def bios_setting(asked: Asked, ident: str, name: str) -> Reply:
    """BIOS settings are not read here."""
    raise Refusal(404, f"Node {node_of(asked, ident).id} doesn't have a BIOS setting '{name[:80]}'")


@route("GET", "/nodes/{}/volume", since=32)
async def volume(asked: Asked, ident: str) -> Reply:
    """Where volumes would be."""
    node = node_of(asked, ident)
    path = f"nodes/{node.id}/volume"
    doc: dict[str, Any] = {"links": links(asked.base, f"{path}/")}
    for name in ("connectors", "targets"):
        doc[name] = links(asked.base, f"{path}/{name}")
    return answer(asked, doc)


@route("GET", "/nodes/{}/vmedia", since=93)
async def vmedia(asked: Asked, ident: str) -> Reply:
    """Nothing is attached over this API."""
    raise Refusal(400, f"Driver of node {node_of(asked, ident).id} does not support get_virtual_media.")


@route("GET", "/nodes/{}/vendor_passthru/methods")
async def passthru(asked: Asked, ident: str) -> Reply:
    """None."""
    node_of(asked, ident)
    return answer(asked, {})
