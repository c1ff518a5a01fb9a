"""Images, strangers, status and health."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.native.common import conductor, reply, who
from baremetal.errors import Refused
from baremetal.store import events, nodes, postgres, servers, wire_seen
from baremetal.version import __version__
from baremetal.workflows import imagegone
from baremetal.workflows.serverevent import server_event

router = APIRouter(tags=["server"])


@router.get("/images", summary="Stored images")
async def images(request: Request) -> Response:
    """Disk images and ramdisks; with several servers those of all, each with the servers that have it."""
    found = conductor(request).images
    if everywhere := getattr(found, "everywhere", None):
        return reply({"images": [{**_image(image), "on": list(on)} for image, on in everywhere()]})
    return reply({"images": [_image(image) for image in found.list()]})


@router.get("/images/{ref}", summary="One image by name or id")
async def image(ref: str, request: Request) -> Response:
    """404 when there is none."""
    return reply(_image(conductor(request).images.get(ref)))


@router.delete("/images/{ref}", summary="Delete an image that no node refers to, on every server")
async def delete_image(ref: str, request: Request, force: bool = False) -> Response:
    """409 while a node has it or is about to get it, unless `force`."""
    con, by = conductor(request), who(request)
    image: Any = con.images.get(ref)
    now, me = con.clock.now(), con.cluster.me.name if con.cluster else ""

    def write(conn: Connection) -> None:
        if not force and (used := imagegone.users(conn, image)):
            shown = ", ".join(used[:5]) + (f" and {len(used) - 5} more" if len(used) > 5 else "")
            raise Refused(f"image {image.name} is used by {shown}", fix="deploy another image there first")
        if con.store.shared:
            imagegone.remember(conn, image, by, me, now)
        told = server_event(now, "image-deleted", image=image.name, id=image.id, by=by)
        events.add_all(conn, [told])

    await con.write(write)
    drop: Any = getattr(con.images, "delete", None)
    if drop is not None:
        await asyncio.to_thread(drop, image.id)
    con.images_changed()
    return reply({"deleted": image.name, "id": image.id})


@router.get("/unknown", summary="Machines that asked to boot and belong to no node")
async def unknown(request: Request) -> Response:
    """Latest first."""
    con = conductor(request)
    found = await con.store.fetch(wire_seen.all_strangers)
    names = {"first_seen": "first", "last_seen": "last"}
    return reply({"machines": [{names.get(k, k): v for k, v in machine.items()} for machine in found]})


@router.get("/status", summary="How the server is")
async def status(request: Request) -> Response:
    """Nodes, engine, planes, database."""
    con = conductor(request)
    by_state, faults = con.store.read(lambda c: (nodes.counts(c), nodes.faults(c)))
    stats = con.engine.stats()
    late = sorted(stats.late_s)
    path = con.store.path
    doc = {
        "version": __version__,
        "started_at": con.started_at,
        "now": con.clock.now(),
        "nodes": {"by_state": by_state, "faults": faults, "total": sum(by_state.values())},
        "engine": {
            "due": stats.queued,
            "running": stats.running,
            "passes": stats.passes,
            "crashes": stats.crashes,
            "late_p95_ms": round(late[int(len(late) * 0.95)] * 1000, 1) if late else None,
        },
        "planes": con.planes,
        "db": {"path": str(path) if path else None, "size": path.stat().st_size if path and path.exists() else None},
    }
    if con.cluster is not None:
        lives = con.store.read(servers.alive)
        doc["db"] = {"path": postgres.shown(con.cluster.url), "size": None}
        doc["servers"] = {"this": con.cluster.me.name, "alive": [life.name for life in lives]}
    return reply(doc)


@router.get("/health", summary="Is it alive")
async def health(request: Request) -> Response:
    """200 when the database answers."""
    conductor(request).store.read(nodes.counts)
    return reply({"ok": True})


def _image(found: Any) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "id": found.id,
        "name": found.name,
        "kind": found.kind,
        "size": manifest.raw_size if manifest else None,
        "min_disk": manifest.min_disk if manifest else None,
        "firmware": list(manifest.firmware) if manifest else [],
        "arch": manifest.arch if manifest else None,
        "created": manifest.created if manifest else getattr(found, "created", None),
        "bytes": getattr(found, "size", None),
        "tags": list(getattr(found, "tags", ())),
        "properties": dict(found.properties),
    }
