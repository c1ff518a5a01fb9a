"""What happened to a node, where it is, why: timeline, explain, history, events, inventory, console."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.engine import Connection

from baremetal.api.native.common import conductor, number, reply
from baremetal.bmc import consolelog
from baremetal.errors import NotFound
from baremetal.model.node import Node
from baremetal.store import boots, events, inventories, nodes, orders, ports
from baremetal.workflows import explain, timeline, views

router = APIRouter(tags=["story"])


@router.get("/nodes/{ref}/timeline", summary="The last run as stages with their seconds; all=1 for everything")
async def get_timeline(ref: str, request: Request) -> Response:
    """From the last verb on."""
    con = conductor(request)
    whole = request.query_params.get("all") in ("1", "true")

    def query(conn: Connection) -> tuple[Node, list[timeline.Stage]]:
        node = nodes.get(conn, ref)
        told = events.of_node(conn, node.id)
        run = told if whole else timeline.current_run(told)
        order = orders.get(conn, node.work.get("order"))
        progress = order.progress if order and order.outcome is None else None
        return node, timeline.of_events(run, node, con.clock.now(), progress)

    node, stages = await con.store.fetch(query)
    begun = min((s.start for s in stages), default=0.0)
    ended = con.clock.now() if node.wanted else max((s.end or s.start for s in stages), default=begun)
    doc = {"node": node.name, "state": str(node.state), "boot_id": node.boot_id, "total_s": round(ended - begun, 3)}
    return reply({**doc, "stages": [stage.to_json() for stage in stages]})


@router.get("/nodes/{ref}/explain", summary="Where it is, since when, why, what happens next, what you can do")
async def get_explain(ref: str, request: Request) -> Response:
    """True from the node's row alone; events add the likely cause."""
    con = conductor(request)

    def query(conn: Connection) -> explain.Explanation:
        node = nodes.get(conn, ref)
        live = boots.live(conn, node.id)
        boot = live.get(boots.RAMDISK) or live.get(boots.INSTANCE)
        seen = events.of_node(conn, node.id, since=boot.created_at) if boot else []
        macs = [port.mac for port in ports.of_node(conn, node.id)]
        return explain.explain(node, seen, boot, macs, con.clock.now())

    return reply((await con.store.fetch(query)).to_json())


@router.get("/nodes/{ref}/history", summary="Verbs, states and faults")
async def get_history(ref: str, request: Request) -> Response:
    """The node's story in short."""
    return await _events(ref, request, [str(k) for k in events.HISTORY])


@router.get("/nodes/{ref}/events", summary="All events of a node, newest `limit`")
async def get_events(ref: str, request: Request) -> Response:
    """Oldest first."""
    return await _events(ref, request, [])


@router.get("/nodes/{ref}/erasures", summary="Proofs of erased disks of a node: method, bytes read again, when")
async def get_erasures(ref: str, request: Request) -> Response:
    """Oldest first."""
    return await _erasures(request, ref)


@router.get("/erasures", summary="Proofs of erased disks of all nodes; disk=SERIAL or WWN for one disk")
async def list_erasures(request: Request) -> Response:
    """Oldest first; also of nodes that were deleted."""
    return await _erasures(request, None)


async def _erasures(request: Request, ref: str | None) -> Response:
    con = conductor(request)
    disk, limit = request.query_params.get("disk", ""), number(request, "limit", 1000, 100_000)

    def query(conn: Connection) -> dict[str, object]:
        node_id = nodes.get(conn, ref).id if ref else None
        found = [p for e in events.proofs(conn, node_id, limit) for p in views.proof_json(e)]
        return {"erasures": [p for p in found if not disk or disk in (p["serial"], p["wwn"])]}

    return reply(await con.store.fetch(query))


async def _events(ref: str, request: Request, kinds: list[str]) -> Response:
    con = conductor(request)
    limit = number(request, "limit", 500, 10_000)

    def query(conn: Connection) -> dict[str, object]:
        node = nodes.get(conn, ref)
        told = events.of_node(conn, node.id, kinds=kinds, limit=limit)
        return {"events": [views.event_json(e, {node.id: node.name}) for e in told]}

    return reply(await con.store.fetch(query))


@router.get("/nodes/{ref}/inventory", summary="What the last inspection found")
async def get_inventory(ref: str, request: Request) -> Response:
    """404 before the first inspection."""
    con = conductor(request)
    node = con.store.read(lambda c: nodes.get(c, ref))
    found = con.store.read(lambda c: inventories.get(c, node.id))
    if found is None:
        raise NotFound(f"{node.name} was not inspected yet", fix=f"baremetal node inspect {node.name}")
    return reply({"inventory": found[1], "at": found[0]})


@router.get("/nodes/{ref}/console", summary="Recorded serial output of the last boot (or of boot=ID)")
async def get_console(ref: str, request: Request) -> Response:
    """Plain text."""
    con = conductor(request)
    node = con.store.read(lambda c: nodes.get(c, ref))
    directory = con.state_dir / "console" / node.id if con.state_dir else None
    wanted = request.query_params.get("boot") or node.boot_id
    names = sorted(directory.glob("*.log"), key=lambda p: p.stat().st_mtime) if directory and directory.is_dir() else []
    chosen = next(
        (p for p in names if p.stem == wanted), names[-1] if names and "boot" not in request.query_params else None
    )
    if chosen is None:
        raise NotFound(f"nothing was recorded from {node.name}'s console", fix="its BMC needs serial over LAN")
    if request.query_params.get("raw") in ("1", "true"):
        return PlainTextResponse(chosen.read_text(errors="replace"))
    return PlainTextResponse("".join(text for _, kind, text in consolelog.read(chosen) if kind == "o"))
