"""Images, strangers, status and health."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from baremetal.api.native.common import conductor, reply
from baremetal.store import nodes, postgres, servers, wire_seen
from baremetal.version import __version__

router = APIRouter(tags=["server"])


@router.get("/images", summary="Stored images")
async def images(request: Request) -> Response:
    """Disk images and ramdisks."""
    return reply({"images": [_image(image) for image in conductor(request).images.list()]})


@router.get("/images/{ref}", summary="One image by name or id")
async def image(ref: str, request: Request) -> Response:
    """404 when there is none."""
    return reply(_image(conductor(request).images.get(ref)))


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
        "created": manifest.created if manifest else None,
        "properties": dict(found.properties),
    }
