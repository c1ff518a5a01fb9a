"""Nodes: enroll, import, list, show, change, delete; verbs and power."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.api.ironic.common import parties, trusted
from baremetal.api.native.common import body_of, check_tenant, conductor, full, image_names, number, reply, show, who
from baremetal.bmc.base import BootDevice, BootPlan
from baremetal.errors import BaremetalError, Refused, UsageError
from baremetal.lifecycle import Verb
from baremetal.model.node import Node
from baremetal.store import nodes, orders, ports
from baremetal.workflows import hand, importing, metadata, powerverbs, registry, verbs, views, where
from baremetal.workflows.conductor import Conductor

router = APIRouter(tags=["nodes"])
MAX_PAGE = 10_000
MAX_WAIT_S = 60
DOCUMENTED = (Verb.DEPLOY, Verb.REBUILD, Verb.ADOPT)  # these need the node's metadata document


@router.post("/nodes", status_code=201, summary="Enroll a node")
async def enroll(request: Request) -> Response:
    """Stores it, and asks its BMC who it is unless `manage` is false."""
    con = conductor(request)
    body, by, now = await body_of(request), who(request), con.clock.now()

    def make(conn: Connection) -> Node:
        registry.check_bmc_free(conn, body.get("bmc_url"))
        return registry.enroll(conn, con.world, con.signer, body, by, now)

    node = await con.write(make)
    request.scope["baremetal.node"] = node.name
    con.touched(node.id)
    await con.references_changed()
    return reply(show(con, node.id), 201)


@router.post("/nodes/import", summary="Enroll many nodes, or update those we know; one bad entry stops no other")
async def import_nodes(request: Request) -> Response:
    """A verdict per entry: enroll, update, ask-again, unchanged. With `dry_run` nothing is written."""
    con = conductor(request)
    body, by = await body_of(request), who(request)
    entries = body.get("nodes")
    if not isinstance(entries, list):
        raise UsageError('import expects {"nodes": [...]}')
    dry, free = bool(body.get("dry_run")), trusted(request.scope)
    known = await con.store.fetch(importing.Known)
    results = []
    for index, entry in enumerate(entries):
        doc = entry if isinstance(entry, dict) else {}
        line: dict[str, Any] = {"index": index, "name": doc.get("name"), "ok": True, "node": None, "error": None}
        try:
            now = con.clock.now()
            if dry:
                plan = con.store.read(lambda c, d=doc: importing.plan(c, con.world, known, d))  # type: ignore[misc]
            else:
                plan = await con.write(
                    lambda c, d=doc, t=now: importing.carry_out(  # type: ignore[misc]
                        c, con.world, con.signer, con.images, known, d, by, t, trusted=free
                    )
                )
            line |= {"verdict": plan.verdict, "changes": sorted(plan.change) if plan.verdict == "update" else []}
            if plan.node is not None:
                if not dry and plan.verdict != "unchanged":
                    con.touched(plan.node.id)
                line["node"] = show(con, plan.node.id)
        except BaremetalError as exc:
            line |= {"ok": False, "error": {"code": exc.code, "brief": exc.brief, "detail": exc.detail, "fix": exc.fix}}
        results.append(line)
    if not dry:
        await con.references_changed()
    return reply({"results": results})


@router.get("/nodes", summary="List nodes by name")
async def list_nodes(request: Request) -> Response:
    """`where` filters, `after` and `limit` page."""
    con = conductor(request)
    limit = number(request, "limit", 1000, MAX_PAGE) or 1000
    after = request.query_params.get("after", "")
    condition = request.query_params.get("where")
    state = request.query_params.get("state")
    names = image_names(con)
    test = _scoped(request, where.parse(condition, names) if condition else None)

    def query(conn: Connection) -> tuple[list[dict[str, Any]], str | None]:
        rows, last, more = _page(conn, after, limit, test, state)
        open_orders = orders.unfinished(conn)
        docs = [views.node_json(n, order=open_orders.get(n.id), image_name=names.get(n.image_id or "")) for n in rows]
        return docs, last if more else None

    docs, following = await con.store.fetch(query)
    return reply({"nodes": docs, "next": following})


def _scoped(request: Request, test: where.Test | None) -> where.Test | None:
    """An account with a project sees what that owns or leases."""
    project = request.scope.get("baremetal.project")
    if project is None:
        return test
    return lambda node: project in parties(node) and (test is None or test(node))


def _page(
    conn: Connection, after: str, limit: int, test: where.Test | None, state: str | None
) -> tuple[list[Node], str, bool]:
    """(nodes, name to go on after, is there more)."""
    found: list[Node] = []
    at = after
    size = limit + 1 if test is None and state is None else 500
    while True:
        chunk = nodes.page(conn, after=at, limit=size)
        for node in chunk:
            if (test is None or test(node)) and state in (None, str(node.state), lifecycle.provision_state(node)):
                if len(found) == limit:
                    return found, found[-1].name, True
                found.append(node)
            at = node.name
        if len(chunk) < size:
            return found, at, False


@router.get("/nodes/{ref}", summary="Show a node; with wait and fence, as soon as it changed")
async def get_node(ref: str, request: Request) -> Response:
    """By id or name. With `reported`, a generation, a report on another one is a change, too: it moves no fence."""
    con = conductor(request)
    doc = show(con, ref)
    wait_s, fence = number(request, "wait", 0, MAX_WAIT_S), request.query_params.get("fence")
    reported = request.query_params.get("reported")
    until = time.monotonic() + wait_s
    while fence is not None and str(doc["fence"]) == fence and (left := until - time.monotonic()) > 0:
        if reported is not None and str(doc["config"]["generation"] or 0) != reported:
            break
        await con.wait_for_change(left)
        doc = show(con, ref)
    return reply(doc)


@router.patch("/nodes/{ref}", summary="Change what operators may change")
async def patch_node(ref: str, request: Request) -> Response:
    """With If-Match: only if the fence is still that."""
    con = conductor(request)
    body = await body_of(request)
    if "labels" in body:
        check_tenant(request, con.store.read(lambda c: nodes.get(c, ref)), labels=body["labels"])
    match = request.headers.get("if-match", "").strip('"')
    fence = int(match) if match.isdecimal() else None
    now = con.clock.now()
    more: dict[str, Any] = {"trusted": trusted(request.scope), "by": who(request)}

    def change(conn: Connection) -> Node:
        registry.check_bmc_free(conn, body.get("bmc_url"), nodes.get(conn, ref).id)
        return registry.change(conn, con.world, con.signer, ref, body, now, fence, **more)

    node = await con.write(change)
    con.touched(node.id)
    await con.references_changed()
    return reply(show(con, node.id))


@router.delete("/nodes/{ref}", status_code=204, summary="Forget a node")
async def delete_node(ref: str, request: Request) -> Response:
    """Refused while something is deployed on it, unless force=1."""
    con = conductor(request)
    force = request.query_params.get("force") in ("1", "true")
    by, now = who(request), con.clock.now()
    node_id = await con.write(lambda c: registry.delete(c, ref, by, now, force=force))
    con.touched(node_id)
    await con.references_changed()
    return Response(status_code=204)


@router.put("/nodes/{ref}/verbs/{verb}", status_code=202, summary="Ask something of a node")
async def ask(ref: str, verb: str, request: Request) -> Response:
    """Accepted or refused at once; carried out by the passes."""
    con = conductor(request)
    args = await body_of(request)
    if "metadata" in args:
        check_tenant(request, con.store.read(lambda c: nodes.get(c, ref)), metadata=args["metadata"])
    node = await ask_one(con, ref, verb, args, who(request))
    return reply(con.store.read(lambda c: full(c, con, node)), 202)


async def ask_one(con: Conductor, ref: str, verb: str, args: dict[str, Any], by: str) -> Node:
    """One verb for one node; power verbs go by their own names."""
    now = con.clock.now()
    if verb.startswith("power-") or verb in powerverbs.TARGETS:
        target = verb.removeprefix("power-")
        node = await con.write(lambda c: verbs.power(c, ref, target, by, now))
    else:
        known = lifecycle.parse_verb(verb)
        node = await con.write(lambda c: _ask(c, con, ref, known, args, by, now))
    con.touched(node.id)
    return node


def _ask(conn: Connection, con: Conductor, ref: str, verb: Verb, args: dict[str, Any], by: str, now: float) -> Node:
    """Metadata given with a deploy is stored with it, or neither is."""
    values = args.get("metadata")
    if values is not None:
        if not isinstance(values, dict):
            raise UsageError("metadata is a mapping")
        args = {k: v for k, v in args.items() if k != "metadata"}
        name = nodes.get(conn, ref).name
        change = metadata.Change("node", name, values, by=by, why="with deploy")
        metadata.set_layer(conn, con.world.metadata, con.signer, change, now)
    elif verb in DOCUMENTED:
        metadata.refresh(conn, con.world.metadata, con.signer, nodes.get(conn, ref), now)
    return verbs.ask(conn, ref, verb, args, by, now, con.images)


@router.put("/nodes/{ref}/power", status_code=202, summary="Ask for on, off, soft-off or reboot")
async def set_power(ref: str, request: Request) -> Response:
    """Carried out by the passes."""
    con = conductor(request)
    target, by, now = str((await body_of(request)).get("target", "")), who(request), con.clock.now()
    node = await con.write(lambda c: verbs.power(c, ref, target, by, now))
    con.touched(node.id)
    return reply(show(con, node.id), 202)


@router.put("/nodes/{ref}/confirm", status_code=202, summary="What a machine without BMC was waiting for is done")
async def confirm(ref: str, request: Request) -> Response:
    """Somebody pressed what `explain` said; 409 when nothing was asked."""
    con = conductor(request)
    by, now = who(request), con.clock.now()
    node = await con.write(lambda c: hand.confirm(c, ref, by, now))
    con.touched(node.id)
    return reply(show(con, node.id), 202)


@router.get("/nodes/{ref}/power", summary="Power as last seen")
async def get_power(ref: str, request: Request) -> Response:
    """Seen at the last pass or power sync."""
    con = conductor(request)
    node = con.store.read(lambda c: nodes.get(c, ref))
    return reply({"power": str(node.power), "wanted": node.power_wanted, "seen_at": node.power_seen_at})


@router.get("/nodes/{ref}/ports", summary="NICs of a node")
async def get_ports(ref: str, request: Request) -> Response:
    """By MAC."""
    con = conductor(request)
    found = con.store.read(lambda c: ports.of_node(c, nodes.get(c, ref).id))
    return reply({"ports": [views.port_json(port) for port in found]})


@router.get("/nodes/{ref}/boot-device", summary="The boot override in force, asked of the BMC")
async def get_boot_device(ref: str, request: Request) -> Response:
    """Takes as long as the BMC takes."""
    con = conductor(request)
    node = con.store.read(lambda c: nodes.get(c, ref))
    return reply(_plan(await con.world.driver(node).get_boot()))


@router.put("/nodes/{ref}/boot-device", summary="Set the boot override; refused while a workflow decides about it")
async def put_boot_device(ref: str, request: Request) -> Response:
    """Answers what was really set, as read back."""
    con = conductor(request)
    body = await body_of(request)
    node = con.store.read(lambda c: nodes.get(c, ref))
    if node.wanted or node.power_wanted:
        raise Refused(f"{node.name}: {node.wanted or 'power'} is under way; it decides what the machine boots")
    try:
        device = BootDevice(str(body.get("device")))
    except ValueError:
        raise UsageError(f"boot device {body.get('device')!r}", fix=", ".join(BootDevice)) from None
    plan = await con.world.driver(node).set_boot(device, once=not body.get("persistent", False))
    return reply(_plan(plan))


def _plan(plan: BootPlan) -> dict[str, Any]:
    return {"device": str(plan.device), "persistent": not plan.once, "uefi": plan.uefi}
