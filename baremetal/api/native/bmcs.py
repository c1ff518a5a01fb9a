"""A node's BMC, asked now: sensors, event log, accounts, audit, identify light, password."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.native.common import body_of, conductor, in_charge, reply, who
from baremetal.bmc.base import BmcDriver
from baremetal.bmc.faults import BmcError
from baremetal.errors import Denied, Refused, UsageError
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node
from baremetal.secrets import Secret
from baremetal.store import events, nodes
from baremetal.workflows import bmcpassword, ids
from baremetal.workflows.conductor import Conductor

router = APIRouter(tags=["bmc"])
MOST_SECONDS = 255


def _node(con: Conductor, ref: str) -> tuple[Node, BmcDriver]:
    node = con.store.read(lambda c: nodes.get(c, ref))
    return node, con.world.driver(node)


@router.get("/nodes/{ref}/sensors", summary="All sensors, asked of the BMC; cached=1: as last read")
async def get_sensors(ref: str, request: Request) -> Response:
    """With unit, state and thresholds. Takes as long as the BMC takes; a silent one gives the last readings, if any."""
    con = conductor(request)
    node, driver = _node(con, ref)
    known = con.health.known.get(node.id)
    cached = request.query_params.get("cached") in ("1", "true")
    error = None
    if not cached:
        try:
            await con.health.seen(node, await driver.sensors())
        except BmcError as exc:
            if known is None or not known.read_at:
                raise
            error = exc.to_json()
        known = con.health.known.get(node.id)
    readings = [dataclasses.asdict(reading) for reading in known.readings] if known else []
    return reply({"sensors": readings, "read_at": known.read_at if known else None, "error": error})


@router.get("/nodes/{ref}/bmc/log", summary="The BMC's own event log (SEL), or what came after record `since`")
async def get_log(ref: str, request: Request) -> Response:
    """Oldest first."""
    node, driver = _node(conductor(request), ref)
    found = await driver.events(request.query_params.get("since") or None)
    return reply({"node": node.name, "records": [dataclasses.asdict(record) for record in found]})


@router.delete("/nodes/{ref}/bmc/log", summary="Empty the BMC's event log; its records are in the answer")
async def clear_log(ref: str, request: Request) -> Response:
    """Read before it is emptied, so that nothing is lost."""
    con = conductor(request)
    node, driver = _node(con, ref)
    found = await driver.events()
    await driver.clear_events()
    await _told(con, node, "clear-bmc-log", who(request), records=len(found))
    return reply({"node": node.name, "records": [dataclasses.asdict(record) for record in found]})


@router.get("/nodes/{ref}/bmc/users", summary="The BMC's accounts")
async def get_users(ref: str, request: Request) -> Response:
    """Names, privileges, enabled or not; no passwords."""
    node, driver = _node(conductor(request), ref)
    if not in_charge(request, node):
        raise Denied(f"the accounts of {node.name}'s BMC are for its owner", fix="ask the owner")
    return reply({"node": node.name, "users": [dataclasses.asdict(user) for user in await driver.users()]})


@router.post("/nodes/{ref}/bmc/audit", summary="What is dangerous about the BMC, found out now")
async def audit(ref: str, request: Request) -> Response:
    """`factory`: [[user, password], …] to try; nothing is tried without it."""
    con = conductor(request)
    node, _ = _node(con, ref)
    pairs = (await body_of(request)).get("factory") or []
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise UsageError("factory is a list of [user, password]")
    return reply(await con.health.audit(node, [(pair[0], pair[1]) for pair in pairs], who(request)))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)


@router.put("/nodes/{ref}/bmc/locate", summary="The identify light: on for some seconds (0: until off), or off")
async def locate(ref: str, request: Request) -> Response:
    """`on` true or false, `seconds` up to 255."""
    con = conductor(request)
    node, driver = _node(con, ref)
    body = await body_of(request)
    on, seconds = body.get("on", True), body.get("seconds", 60)
    if not isinstance(on, bool) or not isinstance(seconds, int) or not 0 <= seconds <= MOST_SECONDS:
        raise UsageError(f"locate takes on (true, false) and seconds (0 to {MOST_SECONDS})")
    await driver.locate(on, seconds or None)
    return reply({"node": node.name, "light": "on" if on else "off"})


@router.put("/nodes/{ref}/bmc/password", summary="Change the password on the BMC, prove it, and keep it")
async def put_password(ref: str, request: Request) -> Response:
    """`password`; `account`: another one than ours, whose password is not kept. Refused while a workflow runs."""
    con = conductor(request)
    node, _ = _node(con, ref)
    body = await body_of(request)
    new, account = body.get("password"), body.get("account") or ""
    if not isinstance(new, str) or not isinstance(account, str):
        raise UsageError("password and account are texts")
    if node.wanted or node.power_wanted:
        raise Refused(f"{node.name}: {node.wanted or 'power'} is under way", fix="wait for it, or abort it")
    doc = await bmcpassword.change(con.world, node, account, Secret(new))
    con.touched(node.id)
    await _told(con, node, "bmc-password", who(request), account=doc["user"])
    return reply({"node": node.name, **doc})


async def _told(con: Conductor, node: Node, what: str, by: str, **data: Any) -> None:
    now = con.clock.now()

    def write(conn: Connection) -> None:
        events.add_all(conn, [Event(ids.ulid(now), now, node.id, Kind.VERB, what, by, data={"by": by, **data})])

    await con.write(write)
