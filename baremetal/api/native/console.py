"""A node's serial console over HTTP: watched as server-sent events, typed to by posts, recordings listed."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from baremetal.api.native.common import body_of, conductor, in_charge, reply, who
from baremetal.bmc.consolehub import ConsoleHub, Viewer
from baremetal.bmc.faults import BmcAuth, BmcError, BmcPrivilege, BmcUnsupported
from baremetal.errors import NotFound, Refused, UsageError
from baremetal.model.node import Node
from baremetal.secrets import Secret
from baremetal.store import nodes
from baremetal.store import secrets as secret_rows
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.passes import need_bmc

router = APIRouter(tags=["console"])

KEEPALIVE_S = 15.0
RETRY_S = (1.0, 2.0, 5.0, 10.0)
MOST_KEYS = 4096  # bytes in one post
KEPT = 10  # recordings of live sessions a node


class _Session:
    """One watcher. `viewer` is None while the line is lost."""

    def __init__(self, name: str, keys: bool, take: bool) -> None:
        self.name, self.keys, self.take = name, keys, take
        self.viewer: Viewer | None = None


# Sessions by the secret their watcher was told; they live as long as its stream.
_SESSIONS: dict[str, _Session] = {}


@router.get("/nodes/{ref}/console/live", summary="The serial console as it comes (text/event-stream)")
async def live(ref: str, request: Request) -> Response:
    """`keys=1`: wants to type; `take=1`: takes the keyboard from whoever has it.

    Events: session, o (output), m (marks), end.
    """
    con = conductor(request)
    node = con.store.read(lambda c: nodes.get(c, ref))
    need_bmc(node)
    query = request.query_params
    acts = in_charge(request, node)  # taking the keyboard is more than looking
    session = _Session(who(request), acts and query.get("keys") == "1", acts and query.get("take") == "1")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(con, node, session), media_type="text/event-stream", headers=headers)


async def _frames(con: Conductor, node: Node, session: _Session) -> AsyncIterator[str]:
    ident = secrets.token_urlsafe(16)
    _SESSIONS[ident] = session
    record = recording(con, node)
    failures = 0
    try:
        while True:
            try:
                session.viewer = viewer = await _join(con.consoles, con, node, session.name, record)
                if session.keys:
                    viewer.take_keys(force=session.take)
                told = {"session": ident, "keys": viewer.has_keys, "holder": viewer.holder, "node": node.name}
                yield _frame("session", told)
                failures = 0
                async for frame in _output(viewer):
                    yield frame
            except (BmcAuth, BmcPrivilege, BmcUnsupported) as exc:
                yield _frame("end", {"error": exc.to_json()})
                return
            except BmcError as exc:
                if not failures and exc.cause == "console":
                    yield _frame("end", {"error": exc.to_json()})
                    return
                yield _frame("m", {"t": time.time(), "text": f"{exc.brief}; trying again"})
            finally:
                left, session.viewer = session.viewer, None
                if left is not None:
                    await left.close()
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
            failures += 1
    finally:
        _SESSIONS.pop(ident, None)


async def _output(viewer: Viewer) -> AsyncIterator[str]:
    """Frames of what the machine sends; a comment now and then keeps the connection."""
    while True:
        try:
            async with asyncio.timeout(KEEPALIVE_S):  # not wait_for: before 3.12 it can swallow a cancellation
                chunk = await viewer.read()
        except TimeoutError:
            yield ": still here\n\n"
            continue
        if not chunk:
            return
        yield _frame("o", {"t": round(time.time(), 3), "d": chunk.decode("latin-1")})


async def _join(hub: ConsoleHub, con: Conductor, node: Node, name: str, record: Path | None) -> Viewer:
    world = con.world
    password = con.store.read(lambda c: secret_rows.get(c, world.operator, node.id, secret_rows.BMC_PASSWORD))
    return await hub.join(node.bmc_url, password or Secret(""), name=name, record=record, title=node.name)


def recording(con: Conductor, node: Node) -> Path | None:
    """The file a live session is kept in; older ones make room."""
    if con.state_dir is None:
        return None
    place = con.state_dir / "console" / node.id
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in sorted(place.glob("live-*.log"), key=lambda path: path.stat().st_mtime)[: -KEPT + 1]:
        old.unlink(missing_ok=True)
    return place / f"live-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.log"


@router.post("/nodes/{ref}/console/keys", summary="Type: to the session that has the keyboard")
async def keys(ref: str, request: Request) -> Response:
    """`session` as told by the stream, `d` characters (each below 256 is a byte), or `break` true, or `take` true."""
    con = conductor(request)
    node = con.store.read(lambda c: nodes.get(c, ref))
    body = await body_of(request)
    session = _SESSIONS.get(str(body.get("session")))
    if session is None:
        raise NotFound(f"{node.name}: no such console session", fix="open it again: baremetal node console")
    viewer = session.viewer
    if viewer is None:
        raise Refused(f"{node.name}: its console is lost for the moment", fix="wait: it is opened again")
    if body.get("take"):
        viewer.take_keys(force=True)
    if body.get("break"):
        await viewer.send_break()
    await viewer.write(_bytes(body.get("d", "")))
    return reply({"keys": viewer.has_keys})


def _bytes(text: Any) -> bytes:
    try:
        data = str(text).encode("latin-1")
    except UnicodeEncodeError:
        raise UsageError(
            "d holds characters that are no bytes", fix="send text as UTF-8 bytes, one character each"
        ) from None
    if len(data) > MOST_KEYS:
        raise UsageError(f"more than {MOST_KEYS} characters at once")
    return data


@router.get("/nodes/{ref}/consoles", summary="Recordings of the serial console, newest first")
async def recordings(ref: str, request: Request) -> Response:
    """Their names (for boot=NAME), sizes and times."""
    con = conductor(request)
    node = con.store.read(lambda c: nodes.get(c, ref))
    place = con.state_dir / "console" / node.id if con.state_dir else None
    found = [(path, path.stat()) for path in place.glob("*.log")] if place and place.is_dir() else []
    found.sort(key=lambda one: -one[1].st_mtime)
    rows = [{"boot": path.stem, "bytes": stat.st_size, "until": round(stat.st_mtime)} for path, stat in found]
    return reply({"recordings": rows})


def _frame(kind: str, doc: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(doc, separators=(',', ':'))}\n\n"
