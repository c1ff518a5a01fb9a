"""`lookup` and `heartbeat` as Ironic's own agent asks them: a node by its MACs, a token once a boot, signs of life.

They are answered here, behind authentication (or on the unix socket), so that
tools that simulate agents work. Our ramdisk does not use them: it proves its
boot by a nonce (boot plane, 8443). A MAC alone buys nothing more here than
what `lookup` says, and the token is handed out once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.api.http import Reply
from baremetal.api.ironic import drivers, fields
from baremetal.api.ironic.common import Asked, answer, links, missing, route, stored, typed
from baremetal.api.ironic.version import Refusal
from baremetal.errors import UsageError
from baremetal.model.node import Node
from baremetal.store import nodes, ports
from baremetal.workflows import registry

TIMEOUT_S = 300
TEXT = (str,)
BEAT: dict[str, tuple[type, ...]] = {
    "callback_url": TEXT,
    "agent_token": TEXT,
    "agent_version": TEXT,
    "agent_verify_ca": TEXT,
    "agent_status": TEXT,
    "agent_status_message": TEXT,
}
# Where an agent may be running; with fast track also before a deploy.
LOOKED_UP = frozenset(
    {
        "deploying",
        "wait call-back",
        "cleaning",
        "clean wait",
        "inspecting",
        "inspect wait",
        "rescuing",
        "rescue wait",
        "servicing",
        "service wait",
        "service hold",
    }
)
FAST_TRACK = frozenset({"enroll", "manageable", "available"})
NOT_FOUND = "Resource could not be found."


@route("GET", "/lookup", since=22)
async def lookup(asked: Asked) -> Reply:
    """The node of these MACs; unknown and forbidden answer alike."""
    asked.known_query("addresses", "node_uuid")
    ident, addresses = asked.query.get("node_uuid"), asked.query.get("addresses")
    if not ident and not addresses:
        raise Refusal(400, "At least one of 'addresses' and 'node_uuid' parameters is required")
    macs = _macs(addresses or "")

    def read(conn: Connection) -> Node | None:
        owners = {ident} if ident else {owner for mac in macs if (owner := ports.owner(conn, mac))}
        return nodes.find(conn, owners.pop()) if len(owners) == 1 else None

    node = asked.con.store.read(read)
    if node is None or not _may_have_agent(asked, node):
        raise Refusal(404, NOT_FOUND)
    token = drivers.MASK
    if not _agent(node).get("token_sha256") or _agent(node).get("boot") != node.boot_id:
        token = secrets.token_urlsafe(32)
        now = asked.con.clock.now()
        told = {"token_sha256": _hash(token), "boot": node.boot_id}
        await asked.con.write(lambda c: nodes.save(c, node, fields.keep(node, agent=told), now))
    kept = node.extra.get("ironic", {})
    doc = {
        "node": {
            "uuid": node.id,
            "properties": {k: v for k, v in node.properties.items() if k != "bmc"},
            "instance_info": fields.shown_instance(kept.get("instance_info") or {}),
            "driver_internal_info": {},
            "links": links(asked.base, f"nodes/{node.id}"),
        },
        "config": _config(token),
    }
    return answer(asked, doc)


def _config(token: str) -> dict[str, Any]:
    return {
        "metrics": {"backend": "noop", "prepend_host": False, "prepend_uuid": False, "prepend_host_reverse": True},
        "metrics_statsd": {"statsd_host": "localhost", "statsd_port": 8125},
        "heartbeat_timeout": TIMEOUT_S,
        "agent_token": token,
        "agent_token_required": True,
        "agent_md5_checksum_enable": False,
        "disable_deep_image_inspection": False,
        "permitted_image_formats": ["raw", "qcow2"],
    }


@route("POST", "/heartbeat/{}", since=22)
async def heartbeat(asked: Asked, ident: str) -> Reply:
    """A sign of life; only one that says something new is written."""
    body = await asked.body()
    if not body.get("callback_url"):
        raise Refusal(400, "Missing mandatory parameter: callback_url")
    typed("body", body, BEAT)
    facts = asked.con.store.read(lambda c: asked.shelf.facts(c, ident))
    if facts is None:
        raise missing(ident)
    agent = facts["agent"] or {}
    if not body.get("agent_token"):
        raise Refusal(400, "Agent token is required for heartbeat processing.")
    if not hmac.compare_digest(_hash(body["agent_token"]), agent.get("token_sha256") or "-"):
        raise Refusal(400, "Invalid or missing agent token received.")
    parts = urlsplit(body["callback_url"])
    if parts.scheme != "https" or not parts.hostname:
        raise Refusal(400, "Invalid callback_url: it must be https.")
    if agent.get("agent_url") not in (None, body["callback_url"]):
        raise Refusal(400, "The callback_url of an agent does not change: is there a second one?")
    told = {"agent_url": body["callback_url"], "agent_version": body.get("agent_version")}
    if any(agent.get(key) != value for key, value in told.items()):
        now = asked.con.clock.now()
        told["agent_last_heartbeat"] = fields.when(now)

        def write(conn: Connection) -> None:
            fresh = stored(conn, facts["uuid"])
            nodes.save(conn, fresh, fields.keep(fresh, agent={**_agent(fresh), **told}), now)

        await asked.con.write(write)
    return answer(asked, None, 202)


@route("POST", "/continue_inspection", since=84)
async def continue_inspection(asked: Asked) -> Reply:
    """Inspection data of a foreign agent is not taken: ours comes over the boot plane, with a token."""
    body = await asked.body()
    if not isinstance(body.get("inventory"), dict) or not isinstance(body["inventory"].get("interfaces"), list):
        raise Refusal(400, "Schema error for data: 'interfaces' is a required property")
    raise Refusal(404, NOT_FOUND)


def _agent(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = node.extra.get("ironic", {}).get("agent") or {}
    return found


def _may_have_agent(asked: Asked, node: Node) -> bool:
    state = lifecycle.provision_state(node)
    return state in LOOKED_UP or (asked.con.world.policy.fast_track and state in FAST_TRACK)


def _macs(text: str) -> list[str]:
    found = []
    for part in text.split(",")[:64]:
        try:
            found += registry.checked_macs([part]) if part.strip() else []
        except UsageError:  # (an odd address of one NIC must not hide the others)
            continue
    return found


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
