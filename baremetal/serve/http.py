"""HTTP listeners of the boot plane: aiohttp on sockets that listen.py opened; slow clients are cut off."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import socket
import ssl
import time
from collections.abc import Callable

from aiohttp import web

from baremetal.bootplane.app import HEADERS, LINE_BYTES
from baremetal.bootplane.quick import Answers, Front
from baremetal.serve.listen import BACKLOG

FIRST_REQUEST_S = 15.0  # from connecting to the end of the first request's headers
KEEPALIVE_S = 75.0
TLS_READ_BYTES = 16 * 1024
SWEEP_S = 5.0
HANDSHAKE_S = 10.0


class Listener:
    """One application on some sockets; `quick` answers plain requests before it."""

    def __init__(
        self,
        app: web.Application,
        *,
        connections: int,
        tls: ssl.SSLContext | None = None,
        quick: Answers | None = None,
    ) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
            max_headers=HEADERS,
            lingering_time=3.0,
            handler_cancellation=True,
            shutdown_timeout=2.0,
        )
        self._tls, self._most, self._quick = tls, connections, quick
        self._fronts: set[Front] = set()
        if tls is not None:
            # Each TLS connection holds this as its read buffer; asyncio's 256 KiB make 290 KiB of every held
            # request (hack/bench/held-requests), and agents send little.
            setattr(asyncio.sslproto.SSLProtocol, "max_size", TLS_READ_BYTES)  # noqa: B010 (not in the type stubs)
        self._servers: dict[socket.socket, asyncio.Server] = {}
        self._handler: Callable[[], asyncio.Protocol] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        handler: Callable[[], asyncio.Protocol] = server
        if self._quick is not None:
            handler = Front.factory(server, self._quick, self._fronts)
        self._handler = handler
        for sock in sockets:
            await self.add(sock)
        self._sweeper = asyncio.create_task(self._sweep())

    async def add(self, sock: socket.socket) -> None:
        """Serve this socket too."""
        assert self._handler is not None
        timeout = HANDSHAKE_S if self._tls else None
        self._servers[sock] = await asyncio.get_running_loop().create_server(
            self._handler, sock=sock, ssl=self._tls, backlog=BACKLOG, ssl_handshake_timeout=timeout
        )

    async def drop(self, sock: socket.socket) -> None:
        """Take no more connections there; those that are open go on."""
        server = self._servers.pop(sock, None)
        if server is not None:
            server.close()

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for server in self._servers.values():
            server.close()
        for front in list(self._fronts):
            front.close()
        await self._runner.cleanup()

    async def _sweep(self) -> None:
        """aiohttp has no limit for the first request's headers, nor for connections: this is both.

        A connection that has sent no whole request is cut off after FIRST_REQUEST_S; above
        the limit, those that send nothing go at once, the oldest first.
        """
        since: dict[web.RequestHandler, float] = {}
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            server = self._runner.server
            if server is None:
                return
            open_now = server.connections
            now = loop.time()
            silent = [c for c in open_now if not getattr(c, "_request_count", 0)]
            since = {c: since.get(c, now) for c in silent}
            excess = len(open_now) + len(self._fronts) - self._most
            for front in sorted(self._fronts, key=lambda f: f.since):
                patience = KEEPALIVE_S if front.served else FIRST_REQUEST_S - SWEEP_S
                if time.monotonic() - front.since >= patience or excess > 0:
                    front.close()
                    excess -= 1
            for connection in sorted(silent, key=since.__getitem__):
                if now - since[connection] >= FIRST_REQUEST_S - SWEEP_S or excess > 0:
                    connection.force_close()
                    excess -= 1
