"""Events: in order of arrival, and as a stream (server-sent events)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.engine import Connection

from baremetal.api.native.common import conductor, number, reply
from baremetal.errors import UsageError
from baremetal.model.event import Event, Kind
from baremetal.store import events, nodes
from baremetal.workflows import views
from baremetal.workflows.conductor import Conductor

router = APIRouter(tags=["events"])

KEEPALIVE_S = 15.0
# Changes within this time go out together; bounds what one watcher can cost.
GATHER_S = 0.05
BATCH = 500


@router.get("/events", summary="Events after a cursor, or with newest=1 the last ones, in order of arrival")
async def list_events(request: Request) -> Response:
    """`after`: the `last` of an earlier answer (or an event id)."""
    con = conductor(request)
    query = request.query_params
    limit = number(request, "limit", 500, 10_000)
    if (kind := query.get("kind")) and kind not in list(Kind):
        raise UsageError(f"there is no kind of event {kind!r}", fix=f"one of: {', '.join(Kind)}")

    def read(conn: Connection) -> dict[str, Any]:
        node_id = nodes.get(conn, query["node"]).id if query.get("node") else None
        seq = events.seq_of(conn, query.get("after", "0"))
        only: dict[str, Any] = {"node_id": node_id, "kind": query.get("kind"), "limit": limit}
        last_ones = query.get("newest") in ("1", "true")
        found = events.newest(conn, **only) if last_ones else events.after(conn, seq, **only)
        names = _names(conn, [e for _, e in found])
        last = found[-1][0] if found else seq
        return {"events": [views.event_json(e, names, s) for s, e in found], "last": str(last)}

    return reply(await con.store.fetch(read))


@router.get("/events/stream", summary="Events as they are stored (text/event-stream)")
async def stream(request: Request) -> Response:
    """From now on, or from `after` (or Last-Event-ID) on. Also `nodes`: a node's row changed."""
    con = conductor(request)
    ref = request.query_params.get("node")
    after = request.headers.get("last-event-id") or request.query_params.get("after")

    def begin(conn: Connection) -> tuple[str | None, int]:
        node_id = nodes.get(conn, ref).id if ref else None
        return node_id, events.seq_of(conn, after) if after else events.last_seq(conn)

    node_id, seq = con.store.read(begin)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_follow(con, request, node_id, seq), media_type="text/event-stream", headers=headers)


async def _follow(con: Conductor, request: Request, node_id: str | None, seq: int) -> AsyncIterator[str]:
    yield ": watching\n\n"
    said = time.monotonic()
    while not await request.is_disconnected():
        since = con.bell.count
        found, names = await con.store.fetch(lambda c, s=seq: _new(c, s, node_id))  # type: ignore[misc]
        for number_, event in found:
            seq = number_
            yield _frame(str(number_), str(event.kind), views.event_json(event, names, number_))
        if found:
            said = time.monotonic()
            if len(found) == BATCH:
                continue
        elif time.monotonic() - said > KEEPALIVE_S:
            said = time.monotonic()
            yield ": still here\n\n"
        rang = await con.wait_for_change(KEEPALIVE_S, since)
        if rang:
            await asyncio.sleep(GATHER_S)


def _new(conn: Connection, seq: int, node_id: str | None) -> tuple[list[tuple[int, Event]], dict[str, str]]:
    found = events.after(conn, seq, node_id=node_id, limit=BATCH)
    return found, _names(conn, [e for _, e in found])


def _names(conn: Connection, found: list[Event]) -> dict[str, str]:
    ids = {e.node_id for e in found if e.node_id}
    return {node.id: node.name for node in nodes.many(conn, list(ids))} if ids else {}


def _frame(ident: str, kind: str, doc: dict[str, Any]) -> str:
    return f"id: {ident}\nevent: {kind}\ndata: {json.dumps(doc, separators=(',', ':'))}\n\n"
