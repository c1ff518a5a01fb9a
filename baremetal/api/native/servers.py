"""The servers of this site: who lives, what each does alone, which nodes it drives and since when."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.native.common import conductor, reply
from baremetal.store import nodes as nodes_rows
from baremetal.store import records, schema, servers, tables
from baremetal.workflows.conductor import OUTAGE
from baremetal.workflows.upgrade import ready_to_upgrade

router = APIRouter(tags=["servers"])

# Lives that ended are shown for so long.
ENDED_S = 3600.0
# So long is it shown that a server was without its database.
AWAY_S = 86_400.0


@router.get("/servers", summary="All servers of the site; `nodes=1`: with the nodes each one drives")
async def list_servers(request: Request, nodes: bool = False) -> Response:
    """With SQLite there is one, and it drives every node."""
    con = conductor(request)
    if con.cluster is None:
        return reply({"servers": [], "this": None, "shared": False})
    this, now = con.cluster.me.id, con.clock.now()

    def query(conn: Connection) -> list[dict[str, Any]]:
        driven = servers.counts(conn)
        lives = [s for s in servers.newest(conn) if s.ended_at is None or s.ended_at > now - ENDED_S]
        names, away = (_driven(conn) if nodes else {}), _away(conn, now - AWAY_S)
        return [_shown(life, driven, names, now, nodes) | {"away": away.pop(life.name, None)} for life in lives]

    return reply({"servers": await con.store.fetch(query), "this": this, "shared": True})


@router.get("/servers/check", summary="Is the site ready for an upgrade, one server after the other?")
async def check(request: Request) -> Response:
    """Each check with what was seen and what to do."""
    con = conductor(request)
    now, crashes = con.clock.now(), con.engine.stats().crashes
    have = await asyncio.to_thread(schema.current, con.store.engine)
    lives, faults = await con.store.fetch(lambda c: (servers.alive(c), nodes_rows.faults(c)))
    found = ready_to_upgrade(lives, now, have or "", faults, crashes)
    return reply({"checks": [vars(one) for one in found], "ok": all(one.ok for one in found)})


def _shown(
    life: servers.Server, driven: dict[str, int], names: dict[str, list[dict[str, Any]]], now: float, with_nodes: bool
) -> dict[str, Any]:
    doc: dict[str, Any] = {
        "name": life.name,
        "instance": life.id,
        "host": life.host,
        "pid": life.pid,
        "version": life.version,
        "schema": life.schema,
        "since": life.started_at,
        "heard_s": round(max(0.0, now - life.beat_at), 1),
        "alive": life.ended_at is None,
        "ended_at": life.ended_at,
        "ended_by": life.ended_by,
        "clock_off_s": life.clock_off_s,
        "holds": life.holds if life.ended_at is None else [],
        "urls": life.urls,
        "drives": driven.get(life.id, 0),
    }
    if with_nodes:
        doc["nodes"] = names.get(life.id, [])
    return doc


def _away(conn: Connection, since: float) -> dict[str, dict[str, Any]]:
    """server name -> when it was without the database last, for how long, and why."""
    return {
        row.name: {"at": row.updated_at, **{k: row.doc.get(k) for k in ("seconds", "why", "what")}}
        for row in records.of_kind(conn, OUTAGE)
        if row.updated_at >= since
    }


def _driven(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    """instance -> the nodes it drives, by name."""
    nodes, drivers = tables.nodes, servers.drivers
    query = sa.select(nodes.c.id, nodes.c.name, nodes.c.state, drivers.c.server_id, drivers.c.since)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in conn.execute(query.join(drivers, drivers.c.node_id == nodes.c.id).order_by(nodes.c.name)):
        told = {"id": row.id, "name": row.name, "state": row.state, "since": row.since}
        found.setdefault(row.server_id, []).append(told)
    return found
