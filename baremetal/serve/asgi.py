"""An ASGI application on aiohttp's HTTP/1.1 server: the control plane's listener.

aiohttp is here for the boot plane already, and its C parser takes 100 µs of CPU
a request where uvicorn with h11 takes 255 (hack/bench/api). Slow clients and
crowds are cut off as on the boot plane (serve/http.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from baremetal.api.http import MAX_BODY, App, BadRequest
from baremetal.serve.listen import BACKLOG

log = logging.getLogger(__name__)

LINE_BYTES = 8 * 1024  # of a request line, or of one header
HEADERS = 64
KEEPALIVE_S = 75.0
FIRST_REQUEST_S = 15.0  # from connecting to the end of the first request's headers
BODY_S = 30.0  # a body that takes longer to arrive is not waited for
SWEEP_S = 5.0
CLOSE_S = 0.5  # what answers under way get when we end; held requests and streams are asked again by who holds them
CONNECTIONS = 2000
TLS_READ_BYTES = 16 * 1024
HANDSHAKE_S = 10.0


class AsgiServer:
    """One application on one socket."""

    def __init__(self, app: App, *, connections: int = CONNECTIONS) -> None:
        self._app, self._most = app, connections
        self._server: web.Server | None = None
        self._listening: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serve on a socket that listens (or will)."""
        if tls is not None:
            # As serve/http.py: a TLS connection holds this as its read buffer.
            setattr(asyncio.sslproto.SSLProtocol, "max_size", TLS_READ_BYTES)  # type: ignore[attr-defined]  # noqa: B010
        self._server = web.Server(
            self._handle,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
            max_headers=HEADERS,
            lingering_time=3.0,
            handler_cancellation=True,
            logger=_quiet(),
        )
        loop = asyncio.get_running_loop()
        handshake = HANDSHAKE_S if tls else None
        if sock.family == socket.AF_UNIX:
            self._listening = await loop.create_unix_server(self._server, sock=sock, backlog=BACKLOG)
        else:
            self._listening = await loop.create_server(
                self._server, sock=sock, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=handshake
            )
        self._sweeper = asyncio.create_task(self._sweep(), name="api-sweep")

    async def close(self) -> None:
        """Answer what is under way, then close."""
        if self._sweeper:
            self._sweeper.cancel()
        if self._listening:
            self._listening.close()
        if self._server:
            await self._server.shutdown(CLOSE_S)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = _Exchange(request)
        try:
            await self._app(_scope(request), exchange.receive, exchange.send)
        except Exception:
            log.exception("%s %s failed", request.method, request.path[:200])
            if exchange.answer is None:
                return web.Response(status=500, text="the server failed; its log has the details\n")
        if exchange.answer is None:
            return web.Response(status=500, text="no answer\n")
        return exchange.answer

    async def _sweep(self) -> None:
        """Cut off connections that send no whole request, and in a crowd the oldest silent ones."""
        since: dict[Any, float] = {}
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            assert self._server is not None
            now, open_now = loop.time(), self._server.connections
            silent = [c for c in open_now if not getattr(c, "_request_count", 0)]
            since = {c: since.get(c, now) for c in silent}
            excess = len(open_now) - self._most
            for connection in sorted(silent, key=since.__getitem__):
                if now - since[connection] >= FIRST_REQUEST_S - SWEEP_S or excess > 0:
                    connection.force_close()
                    excess -= 1


def _local(transport: asyncio.Transport | None) -> tuple[str, int] | None:
    """Who is at the other end of a unix socket: `unix:uid=0` (the kernel says it, SO_PEERCRED)."""
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return f"unix:uid={int.from_bytes(raw[4:8], 'little')}", 0


def _quiet() -> logging.Logger:
    """aiohttp logs a traceback for every malformed request; whoever can reach the port could fill the disk so."""
    quiet = logging.getLogger(f"{__name__}.http")
    quiet.setLevel(logging.CRITICAL)
    return quiet


def _scope(request: web.BaseRequest) -> MutableMapping[str, Any]:
    """The ASGI scope of a request."""
    raw = request.raw_path
    if not raw.startswith("/"):  # http://host/path
        raw = request.rel_url.raw_path_qs
    path, _, query = raw.partition("?")
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https" if transport is not None and transport.get_extra_info("sslcontext") else "http",
        "path": unquote(path) if "%" in path else path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": query.encode("utf-8", "surrogateescape"),
        "root_path": "",
        "headers": [(k.lower(), v) for k, v in request.raw_headers],
        "client": tuple(peer[:2]) if isinstance(peer, tuple) else _local(transport),
        "server": None,
    }


class _Exchange:
    """receive and send of one request."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._status = 200
        self._headers: list[tuple[str, str]] = []
        self._read = False
        self._stream: web.StreamResponse | None = None
        self.answer: web.StreamResponse | None = None

    async def receive(self) -> MutableMapping[str, Any]:
        """The whole body at once; after that, only the news that the client left."""
        if self._read:
            await asyncio.Event().wait()  # handler_cancellation ends this when the client goes
        self._read = True
        if not self._request.can_read_body:
            return {"type": "http.request", "body": b"", "more_body": False}
        try:
            async with asyncio.timeout(BODY_S):
                body = await self._body()
        except TimeoutError:
            raise BadRequest(408, f"the request's body did not arrive within {BODY_S:g} s") from None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _body(self) -> bytes:
        chunks, size = [], 0
        async for chunk in self._request.content.iter_any():
            size += len(chunk)
            if size > MAX_BODY:
                break  # the application has refused longer ones by their Content-Length already
            chunks.append(chunk)
        return b"".join(chunks)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Answers in one piece go out as one; others are streamed."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in message.get("headers", [])]
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._stream is None and not more:
            plain = [(k, v) for k, v in self._headers if k.lower() != "content-length"]
            self.answer = web.Response(body=body, status=self._status, headers=plain)
            return
        if self._stream is None:
            self._stream = self.answer = web.StreamResponse(status=self._status, headers=self._headers)
            await self._stream.prepare(self._request)
        if body:
            await self._stream.write(body)
        if not more:
            await self._stream.write_eof()
