"""A file of machines against those we know: enrolled, updated or unchanged, decided before anything is written.

A machine is known by its id, one of its MACs, its BMC's address or its name; when
these mean different nodes the entry is refused. Importing the same file again
changes nothing, and asks a BMC again that had not answered.
"""

from __future__ import annotations

import dataclasses
import uuid as uuids
from typing import Any

from sqlalchemy.engine import Connection

from baremetal.bmc.url import BmcUrl
from baremetal.errors import BaremetalError, Refused, UsageError
from baremetal.lifecycle import Verb
from baremetal.model.node import Node, State
from baremetal.store import nodes, ports, secrets
from baremetal.workflows import bmcpassword, registry, verbs
from baremetal.workflows.metadata import Signer
from baremetal.workflows.passes import World
from baremetal.workflows.site import Images

# Of an entry and of no field of a node.
BESIDE = ("uuid", "ports")
LOCAL = ("fake:", "manual:")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of one entry. `verdict`: enroll, update, ask-again or unchanged; `change`: its fields."""

    verdict: str
    node: Node | None
    change: dict[str, Any]


class Known:
    """Who is known, by everything that identifies a machine. Kept while a file is imported."""

    def __init__(self, conn: Connection) -> None:
        self.by: dict[tuple[str, str], str] = {}
        self.addressed: set[str] = set()  # nodes that have a BMC
        for node in nodes.page(conn, limit=None):
            self.learn(node)
        for node_id, found in ports.of_nodes(conn).items():
            self.by.update({("mac", port.mac): node_id for port in found})

    def learn(self, node: Node, macs: tuple[str, ...] = ()) -> None:
        """Another node, or another address of one."""
        self.by["id", node.id] = self.by["name", node.name] = node.id
        if key := key_of(node.bmc_url):
            self.by["bmc", key] = node.id
            self.addressed.add(node.id)
        self.by.update({("mac", mac): node.id for mac in macs})

    def find(self, body: dict[str, Any]) -> str | None:
        """The id of the node this entry means; Refused when it means two."""
        keys = [("id", str(body.get("uuid") or "").lower()), ("bmc", key_of(str(body.get("bmc_url") or "")))]
        keys += [("mac", mac) for mac in registry.checked_macs(body.get("macs") or [])]
        found = {self.by[key]: key for key in keys if key in self.by}
        if len(found) > 1:
            words = ", ".join(f"{kind} {value}" for kind, value in found.values())
            raise Refused(
                f"{body.get('name')}: means {len(found)} different nodes", detail=words, fix="correct the entry"
            )
        by_name = self.by.get(("name", str(body.get("name") or "")))
        if not found and by_name and keys[1][1] and by_name in self.addressed:
            raise Refused(
                f"there is a node named {body['name']!r} already, with another BMC and other MACs",
                fix="choose another name; or, if the BMC moved: baremetal node set NODE bmc_url=…",
            )
        return next(iter(found), by_name)


def key_of(bmc_url: str) -> str:
    """What a BMC is known by; "" for none."""
    if not bmc_url:
        return ""
    try:
        url = BmcUrl.parse(bmc_url)
    except UsageError:
        return ""
    return f"{url.key}{url.path}"


def plan(conn: Connection, world: World, known: Known, body: dict[str, Any]) -> Plan:
    """What would be done; reads only."""
    node_id = known.find(body)
    wanted = {key: value for key, value in body.items() if key not in BESIDE}
    if node_id is None:
        registry.checked_name(body.get("name"))
        return Plan("enroll", None, wanted)
    node = nodes.get(conn, node_id)
    change = _changes(conn, world, node, wanted)
    if change:
        return Plan("update", node, change)
    asked = wanted.get("manage", True) and node.state is State.ENROLL and not node.wanted and node.bmc_url
    return Plan("ask-again" if asked else "unchanged", node, {})


def _changes(conn: Connection, world: World, node: Node, wanted: dict[str, Any]) -> dict[str, Any]:
    """Fields that are in the entry and different with us. Mappings are merged, MACs only added."""
    change: dict[str, Any] = {}
    for key in ("resource_class", "arch", "firmware", "name"):
        if key in wanted and str(wanted[key]) != str(getattr(node, key)):
            change[key] = wanted[key]
    if "bmc_url" in wanted and key_of(wanted["bmc_url"]) and _url(wanted) != node.bmc_url:
        change["bmc_url"], change["username"] = wanted["bmc_url"], wanted.get("username")
    for key in ("labels", "properties", "root_device"):
        now = getattr(node, key)
        merged = {**now, **(wanted.get(key) or {})}
        if merged != now:
            change[key] = merged
    have = [port.mac for port in ports.of_node(conn, node.id)]
    macs = registry.checked_macs(wanted.get("macs") or [])
    if missing := [mac for mac in macs if mac not in have]:
        change["macs"] = [*have, *missing]
    if wanted.get("password") is not None:
        old = secrets.get(conn, world.operator, node.id, secrets.BMC_PASSWORD)
        given = str(wanted["password"])
        if old is None or (old.reveal() != given and not bmcpassword.outdated(conn, world, node.id, given)):
            change["password"] = wanted["password"]
    return {key: value for key, value in change.items() if value is not None}


def _url(wanted: dict[str, Any]) -> str:
    text, user = str(wanted["bmc_url"]), wanted.get("username")
    url = BmcUrl.parse(text)
    return str(dataclasses.replace(url, user=str(user)) if user and not url.user else url)


def carry_out(
    conn: Connection,
    world: World,
    signer: Signer,
    images: Images,
    known: Known,
    body: dict[str, Any],
    by: str,
    now: float,
    *,
    trusted: bool = True,
) -> Plan:
    """Plan and do it, in one transaction. `trusted`: see registry.change."""
    found = plan(conn, world, known, body)
    if found.verdict == "enroll":
        node = registry.enroll(conn, world, signer, found.change, by, now, node_id=_id(body))
        _details(conn, body)
    elif found.verdict == "update":
        assert found.node is not None
        node = registry.change(conn, world, signer, found.node.id, found.change, now, trusted=trusted)
        _details(conn, body)
        if node.state is State.ENROLL and body.get("manage", True) and not node.wanted:
            node = _ask(conn, node, by, now, images)
    elif found.verdict == "ask-again":
        assert found.node is not None
        node = _ask(conn, found.node, by, now, images)
    else:
        assert found.node is not None
        node = found.node
    known.learn(node, tuple(registry.checked_macs(body.get("macs") or [])))
    return dataclasses.replace(found, node=node)


def _ask(conn: Connection, node: Node, by: str, now: float, images: Images) -> Node:
    try:
        return verbs.ask(conn, node.id, Verb.MANAGE, {}, by, now, images)
    except BaremetalError:
        return node


def _id(body: dict[str, Any]) -> str | None:
    """The entry's own id, where it has one."""
    if not body.get("uuid"):
        return None
    try:
        return str(uuids.UUID(str(body["uuid"])))
    except ValueError:
        raise UsageError(f"{body.get('name')}: uuid {str(body['uuid'])[:40]!r} is none") from None


def _details(conn: Connection, body: dict[str, Any]) -> None:
    """What the file says of a NIC beyond its MAC."""
    for port in body.get("ports") or []:
        if not isinstance(port, dict) or not port.get("address"):
            continue
        columns: dict[str, Any] = {}
        if isinstance(port.get("physical_network"), str):
            columns["physical_network"] = port["physical_network"]
        if isinstance(port.get("pxe_enabled"), bool):
            columns["pxe_enabled"] = port["pxe_enabled"]
        link = port.get("local_link_connection")
        known = ports.find(conn, str(port["address"]))
        if isinstance(link, dict) and known is not None:
            columns["extra"] = {**known.extra, "local_link_connection": link}
        if columns:
            ports.set_fields(conn, str(port["address"]).lower(), **columns)
