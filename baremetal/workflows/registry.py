"""The inventory of nodes as operators write it: enroll, change, delete. Writes only, touches no machine."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.agents import hints
from baremetal.errors import BaremetalError, Refused, UsageError
from baremetal.lifecycle import Verb
from baremetal.model.event import Event, Kind
from baremetal.model.node import Firmware, Node, State
from baremetal.secrets import Secret
from baremetal.store import events, metadata, nodes, ports, secrets, tables, wire_seen
from baremetal.store.store import Fenced
from baremetal.workflows import bmcpassword, ids, whose
from baremetal.workflows.metadata import Signer, refresh
from baremetal.workflows.passes import World

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_TRAIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,254}\Z")
MOST_TRAITS = 50  # as Ironic
# Fields of a node that operators write, by type.
TEXTS = ("bmc_url", "resource_class", "arch", "serial")
MAPPINGS = ("labels", "properties", "root_device")
FLAGS = ("protected", "retired")
ENROLL = frozenset({"name", "username", "password", "macs", "traits", "firmware", "manage", *TEXTS, *MAPPINGS})
PATCH = frozenset(
    {"name", "username", "password", "macs", "traits", "firmware", "maintenance", *TEXTS, *MAPPINGS, *FLAGS}
)
SPOKEN_OF = frozenset({"name", "labels", "macs"})  # what metadata documents may say of a node
LIMIT = 64 * 1024  # characters of JSON in one mapping


def enroll(
    conn: Connection,
    world: World,
    signer: Signer,
    body: dict[str, Any],
    by: str,
    now: float,
    *,
    node_id: str | None = None,
    extra: dict[str, Any] | None = None,
    document: bool = True,
) -> Node:
    """A new node with its ports and password; with `manage` (the default) its BMC is asked at once.

    `node_id` and `extra` are for adapters of other APIs. Without `document` the
    first metadata document is made when the node is deployed, not now.
    """
    _known(body, ENROLL, "enroll")
    if not body.get("name"):
        raise UsageError("a node needs a name", fix='{"name": "r1-u07", "bmc_url": "ipmi://admin@10.0.0.17", …}')
    blank = Node(node_id or ids.node_id(), "", extra=extra or {}, created_at=now, updated_at=now, state_since=now)
    node = _with(blank, body)
    nodes.insert(conn, node)
    for mac in _macs(body):
        ports.add(conn, node.id, [mac])
        wire_seen.forget_stranger(conn, mac)
    _keep_password(conn, world, node, body, now)
    events.add_all(conn, [Event(ids.ulid(now), now, node.id, Kind.VERB, "enroll", by)])
    if document:
        refresh(conn, world.metadata, signer, node, now)
    if body.get("manage", True) and node.bmc_url:
        work = {"ask": str(Verb.MANAGE), "to": str(State.VERIFYING)}
        wish = dataclasses.replace(
            node, wanted=str(Verb.MANAGE), wanted_by=by, wanted_since=now, work=work, wake_at=now
        )
        node = nodes.save(conn, node, wish, now)
    return node


def change(
    conn: Connection,
    world: World,
    signer: Signer,
    ref: str,
    body: dict[str, Any],
    now: float,
    fence: int | None = None,
    *,
    trusted: bool = True,
    by: str = "operator",
) -> Node:
    """Change what operators may change; `fence`: only if the node is still as it was read.

    Who is not `trusted` with the BMC's password gives it again when the BMC's address changes.
    """
    _known(body, PATCH, "change")
    node = nodes.get(conn, ref)
    if fence is not None and node.fence != fence:
        raise Fenced(
            f"{node.name} was changed since you read it (fence {node.fence}, yours {fence})", fix="read it again"
        )
    after = _with(node, body)
    if body.get("password") is None and not trusted:
        check_moved(conn, node, after.bmc_url)
    if "maintenance" in body:
        reason = body["maintenance"]
        after = dataclasses.replace(after, maintenance=None if reason in (None, False, "") else str(reason))
    for flag in FLAGS:
        if flag in body:
            flags: dict[str, Any] = {flag: _bool(flag, body[flag])}
            after = dataclasses.replace(after, **flags)
    if after.name != node.name and nodes.find(conn, after.name):
        raise Refused(f"there is a node named {after.name!r} already", fix="choose another name")
    if "macs" in body:
        ports.replace(conn, node.id, _macs(body))
    _keep_password(conn, world, after, body, now)
    saved = nodes.save(conn, node, after, now)
    events.add_all(conn, _flags_told(node, saved, by, now))
    if SPOKEN_OF & set(body):
        refresh(conn, world.metadata, signer, saved, now)
    return saved


def _flags_told(before: Node, after: Node, by: str, now: float) -> list[Event]:
    """Who set or took away what forbids verbs, for the node's history."""
    found: list[tuple[str, dict[str, Any]]] = []
    if before.maintenance != after.maintenance:
        found.append(("maintenance", {"reason": after.maintenance}) if after.maintenance else ("maintenance over", {}))
    for flag in FLAGS:
        if getattr(before, flag) != getattr(after, flag):
            found.append((flag if getattr(after, flag) else f"not {flag}", {}))
    return [Event(ids.ulid(now), now, after.id, Kind.VERB, what, by, data=data) for what, data in found]


def _way_to_deletable(node: Node) -> str:
    """The verb that leads to where a record may be deleted."""
    allowed = lifecycle.allowed(node)
    for verb, why in (
        (lifecycle.Verb.MANAGE, ""),
        (lifecycle.Verb.UNDEPLOY, "release it first: "),
        (lifecycle.Verb.ABORT, "stop what is under way: "),
        (lifecycle.Verb.UNRESCUE, "end the rescue first: "),
    ):
        if verb in allowed:
            return f"{why}baremetal node {verb} {node.name}"
    return f"baremetal node explain {node.name}"


def delete(conn: Connection, ref: str, by: str, now: float, *, force: bool = False) -> str:
    """Forget the node; its id. Ironic's rule on states unless `force`."""
    node = nodes.get(conn, ref)
    state = lifecycle.provision_state(node)
    if node.protected:
        raise Refused(f"{node.name} is protected", fix=f"baremetal node set {node.name} --unprotected")
    if state not in lifecycle.DELETABLE and not force:
        raise Refused(
            f"{node.name} is {state!r}: its record is not deleted there",
            detail=f"deletable in: {', '.join(sorted(lifecycle.DELETABLE))}",
            fix=_way_to_deletable(node),
        )
    if node.wanted and not force:
        raise Refused(f"{node.name}: {node.wanted} is under way", fix="wait for it, or abort it")
    secrets.forget(conn, node.id)
    metadata.forget_layer(conn, "node", node.id)
    nodes.delete(conn, node.id)
    told = Event(ids.ulid(now), now, node.id, Kind.VERB, "delete", by, data={"name": node.name})
    events.add_all(conn, [told])
    return node.id


def check_bmc_free(conn: Connection, bmc_url: Any, node_id: str = "") -> None:
    """Refused when another node has this BMC: what one is told, the other's machine would do.

    `node_id`: the node that it is for. Machines behind one Redfish service differ by path or `?system=`.
    """
    if not isinstance(bmc_url, str) or not bmc_url:
        return
    wanted = _machine(bmc_url)
    if wanted is None:
        return
    column = tables.nodes.c
    query = sa.select(column.id, column.name, column.bmc_url).where(column.bmc_url.contains(wanted[0], autoescape=True))
    for row in conn.execute(query):
        if row.id != node_id and _machine(row.bmc_url) == wanted:
            raise Refused(
                f"{row.name} has this BMC already",
                detail=row.bmc_url,
                fix=f"correct the address, or take it from {row.name} first: baremetal node set {row.name} --bmc ''",
            )


def _machine(bmc_url: str) -> tuple[str, str, str] | None:
    """(host, port and path, system) behind a BMC's URL; None where a name is all there is."""
    from baremetal.bmc.url import BmcUrl

    try:
        url = BmcUrl.parse(bmc_url)
    except UsageError:
        return None  # told where it is stored
    if url.scheme in ("manual", "fake"):
        return None
    return url.host.lower(), f"{url.key}{url.path}", url.options.get("system", "")


def check_moved(conn: Connection, node: Node, bmc_url: str) -> None:
    """Refused when the stored password would be sent to another machine than it was given for, or in the clear."""
    from baremetal.bmc.url import BmcUrl

    if bmc_url == node.bmc_url or not bmc_url or not secrets.has(conn, node.id, secrets.BMC_PASSWORD):
        return
    before, after = BmcUrl.parse(node.bmc_url) if node.bmc_url else None, BmcUrl.parse(bmc_url)
    bare = after.scheme == "redfish+http" and before is not None and before.scheme != after.scheme
    if before is None or after.host.lower() != before.host.lower() or bare:
        raise Refused(
            f"{node.name}: its BMC's password was given for another address",
            detail=f"{node.bmc_url or 'none'} before, {bmc_url} now",
            fix=f"baremetal node set {node.name} --bmc {bmc_url} --password-file FILE",
        )


def with_fields(node: Node, body: dict[str, Any]) -> Node:
    """The node with these fields changed as an operator may change them; UsageError says what cannot be."""
    return _with(node, body)


def _with(node: Node, body: dict[str, Any]) -> Node:
    """The node with the fields of `body`, checked."""
    fields: dict[str, Any] = {}
    if "name" in body:
        fields["name"] = checked_name(body["name"])
    for key in TEXTS:
        if key in body:
            fields[key] = _text(key, body[key])
    for key in MAPPINGS:
        if key in body:
            fields[key] = _mapping(key, body[key])
    if "root_device" in fields:
        _check_hints(fields["root_device"])
    if "traits" in body:
        fields["traits"] = checked_traits(body["traits"])
    if "firmware" in body:
        if body["firmware"] not in list(Firmware):
            raise UsageError(f"firmware {body['firmware']!r}", fix="bios, uefi or unknown")
        fields["firmware"] = Firmware(body["firmware"])
    if "bmc_url" in fields:
        fields["bmc_url"] = _bmc_url(fields["bmc_url"], body.get("username"))
        if whose.moved(node.bmc_url, fields["bmc_url"]):  # who is there must be asked before it is switched off
            properties = fields.get("properties", node.properties)
            fields["properties"] = {k: v for k, v in properties.items() if k != whose.PROOF}
    return dataclasses.replace(node, **fields)


def _check_hints(given: dict[str, Any]) -> None:
    """Refused here, and not when the ramdisk stands before the disks."""
    try:
        hints.check(given)
    except BaremetalError as exc:
        raise UsageError(exc.brief, fix=exc.fix) from None


def _bmc_url(text: str, username: Any) -> str:
    """The URL without its password; a password in it is refused here: the caller moves it out."""
    from baremetal.bmc.url import BmcUrl

    if not text:
        return ""
    if "://" not in text:
        text = f"ipmi://{text}"
    if username and "@" not in text:
        scheme, _, rest = text.partition("://")
        text = f"{scheme}://{username}@{rest}"
    BmcUrl.parse(text)
    return text


def _keep_password(conn: Connection, world: World, node: Node, body: dict[str, Any], now: float) -> None:
    if body.get("password") is not None:
        secret = Secret(str(body["password"]))
        secrets.put(conn, world.operator, node.id, secrets.BMC_PASSWORD, secret, now)
        secrets.drop(conn, node.id, bmcpassword.REPLACED)


def _macs(body: dict[str, Any]) -> list[str]:
    return checked_macs(body.get("macs") or [])


def checked_macs(given: Any) -> list[str]:
    """MACs of NICs in our spelling (lower case, colons)."""
    if not isinstance(given, list):
        raise UsageError("macs is a list of addresses")
    found = []
    for item in given:
        mac = str(item).strip().lower().replace("-", ":")
        if not _MAC.match(mac) or int(mac[:2], 16) & 1:
            raise UsageError(f"{item!r} is not the MAC address of a NIC", fix="like 52:54:00:12:34:56")
        found.append(mac)
    return list(dict.fromkeys(found))


def checked_name(value: Any) -> str:
    """A node's name."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise UsageError(f"{value!r} is not a name for a node", fix="letters, digits, '.', '-' and '_', at most 253")
    return value


def checked_traits(given: Any) -> tuple[str, ...]:
    """Traits, each once and in order. Ironic's /v1 wants them stricter still: CUSTOM_… or a standard one."""
    if not isinstance(given, list) or not all(isinstance(t, str) for t in given):
        raise UsageError("traits is a list of texts", fix='["CUSTOM_GPU"]')
    for trait in given:
        if not _TRAIT.match(trait):
            raise UsageError(f"{trait[:80]!r} is no trait", fix="letters, digits, '_', '-', '.' and ':', at most 255")
    if len(set(given)) > MOST_TRAITS:
        raise UsageError(f"{len(set(given))} traits are too many", fix=f"at most {MOST_TRAITS}; labels hold more")
    return tuple(sorted(set(given)))


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1024:
        raise UsageError(f"{key} is a text of at most 1024 characters")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise UsageError(f"{key} {value[:80]!r} holds control characters", fix="one line of plain text")
    return value


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{key} is a mapping, not {type(value).__name__}")
    if len(str(value)) > LIMIT:
        raise UsageError(f"{key} is larger than {LIMIT} characters")
    if key == "labels" and not all(isinstance(v, str) for v in value.values()):
        raise UsageError("labels are texts")
    return value


def _bool(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{key} is true or false")
    return value


def _known(body: dict[str, Any], names: frozenset[str], what: str) -> None:
    unknown = set(body) - names
    if unknown:
        import difflib

        near = difflib.get_close_matches(sorted(unknown)[0], names, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(names))}"
        raise UsageError(f"{what} does not know {', '.join(sorted(unknown))}", fix=hint)
