"""JSON answers of the boot plane, errors above all: {"error": {"code", "brief", "detail", "fix"}}."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from baremetal.bootplane.link import CallFailed, ControlAway
from baremetal.bootplane.spool import SpoolFull
from baremetal.errors import BaremetalError, MachineError
from baremetal.protocol.doc import BadDocument

RETRY_AFTER_S = 2
BODY_S = 20.0  # a body that takes longer comes from nobody we know
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpError(BaremetalError):
    """Ends a request with this status."""

    def __init__(self, status: int, code: str, brief: str, *, detail: str = "", fix: str = "") -> None:
        super().__init__(brief, detail=detail, fix=fix)
        self.status = status
        self.said_code = code


def answer(doc: Any, *, status: int = 200) -> web.Response:
    """A JSON answer."""
    body = json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(body=body, status=status, content_type="application/json")


def error(status: int, code: str, brief: str, *, detail: str = "", fix: str = "") -> web.Response:
    """An error with a way out."""
    response = answer({"error": {"code": code, "brief": brief, "detail": detail, "fix": fix}}, status=status)
    if status in (429, 503):
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def of_exception(exc: Exception) -> web.Response:
    """The answer that an exception of ours stands for."""
    match exc:
        case HttpError() | CallFailed():
            return error(exc.status, exc.said_code, exc.brief, detail=exc.detail, fix=exc.fix)
        case ControlAway() | SpoolFull():
            return error(503, exc.code, exc.brief, detail=exc.detail, fix=exc.fix or "try again in a few seconds")
        case BadDocument():
            return error(400, "bad-document", str(exc), fix="send the document that protocol/agent.py describes")
        case MachineError() if exc.code == "loader-missing":
            return error(404, exc.code, exc.brief, detail=exc.detail, fix=exc.fix)
        case BaremetalError():
            return error(500, exc.code, exc.brief, detail=exc.detail, fix=exc.fix)
    return error(500, "internal", "the boot plane failed", fix="see the server's log")


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes, within BODY_S."""
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise HttpError(408, "slow", f"the body did not arrive within {BODY_S:.0f} s") from None
    return b"".join(chunks)


def _too_large(limit: int) -> HttpError:
    return HttpError(413, "too-large", f"the body is larger than {limit} bytes")


def wait_seconds(request: web.Request, longest: float) -> float:
    """?wait=S, bounded."""
    text = request.query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise HttpError(400, "usage", f"wait={text!r:.40} is no number of seconds")
    return min(seconds, longest)
