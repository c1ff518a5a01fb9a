"""Allocation, validation, and care of the database."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.native.common import body_of, conductor, reply, who
from baremetal.errors import UsageError
from baremetal.store import allocations, care, inventories, metadata, nodes, ports
from baremetal.workflows import allocation, checks, judgement

router = APIRouter(tags=["care"])


@router.post("/allocations", status_code=201, summary="Hold a node of a class; when there is none, why not each one")
async def allocate(request: Request) -> Response:
    """State active with a node, or error with the rule that excluded each candidate."""
    con = conductor(request)
    body, by, now = await body_of(request), who(request), con.clock.now()
    return reply(await con.write(lambda c: allocation.allocate(c, body, by, now)), 201)


@router.get("/allocations", summary="All allocations")
async def list_allocations(request: Request) -> Response:
    """Oldest first."""

    def query(conn: Connection) -> list[dict[str, Any]]:
        return [_named(conn, row) for row in allocations.all_rows(conn)]

    return reply({"allocations": await conductor(request).store.fetch(query)})


@router.get("/allocations/{ref}", summary="One allocation")
async def get_allocation(ref: str, request: Request) -> Response:
    """By id or name."""
    return reply(conductor(request).store.read(lambda c: _named(c, allocations.get(c, ref))))


@router.delete("/allocations/{ref}", status_code=204, summary="Let the node go")
async def delete_allocation(ref: str, request: Request) -> Response:
    """The node itself is not touched."""
    await conductor(request).write(lambda c: allocations.delete(c, ref))
    return Response(status_code=204)


def _named(conn: Connection, row: dict[str, Any]) -> dict[str, Any]:
    node = nodes.find(conn, row["node_id"]) if row["node_id"] else None
    return {**row, "node": node.name if node else None}


@router.get("/nodes/{ref}/validate", summary="Would the next step work? Each check with its reason and fix")
async def validate(ref: str, request: Request) -> Response:
    """`group`: pre-enroll, pre-deploy, post-deploy, pre-upgrade; `image` for those that need one."""
    con = conductor(request)
    group = request.query_params.get("group", "pre-deploy")
    wanted = request.query_params.get("image")

    def query(conn: Connection) -> checks.Facts:
        node = nodes.get(conn, ref)
        found = inventories.get(conn, node.id)
        doc = metadata.get_document(conn, con.world.metadata, node.id)
        image = con.images.get(wanted or node.image_id or "") if wanted or node.image_id else None
        return checks.Facts(
            con.world,
            node,
            ports.of_node(conn, node.id),
            found[1] if found else None,
            image,
            doc.generation if doc else None,
        )

    results = await checks.run(group, con.store.read(query))
    return reply({"checks": results, "ok": all(r["verdict"] != "fail" for r in results)})


@router.post("/db/backup", summary="A consistent copy of the database into the state directory")
async def backup(request: Request) -> Response:
    """`name`: a file name, no path; it is put into backups/ of the state directory."""
    con = conductor(request)
    name = str((await body_of(request)).get("name") or f"baremetal-{time.strftime('%Y%m%d-%H%M%S')}.db")
    if "/" in name or name.startswith("."):
        raise UsageError(
            f"{name!r} is not a plain file name", fix="no paths: backups go to backups/ in the state directory"
        )
    base = con.state_dir or (con.store.path.parent if con.store.path else Path("."))
    directory = base / "backups"
    directory.mkdir(mode=0o700, exist_ok=True)
    size = await asyncio.to_thread(care.backup, con.store, directory / name)
    return reply({"path": str(directory / name), "bytes": size}, 201)


@router.get("/db/check", summary="Pages, references, rows and secrets of the database")
async def check(request: Request) -> Response:
    """While it runs."""
    con = conductor(request)
    problems = await con.store.fetch(
        lambda c: [*care.check(c, con.world.operator, con.world.metadata), *judgement.unusable(c)]
    )
    return reply({"ok": not problems, "problems": problems})
