"""HTTP listeners of the boot plane: sockets first (as root), then aiohttp on them; slow clients are cut off."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path

from aiohttp import web

from baremetal.bootplane.app import HEADERS, LINE_BYTES
from baremetal.errors import MachineError
from baremetal.serve.ports import taken

BACKLOG = 1024
FIRST_REQUEST_S = 15.0  # from connecting to the end of the first request's headers
KEEPALIVE_S = 75.0
SWEEP_S = 5.0
HANDSHAKE_S = 10.0


def bind(address: str, port: int) -> socket.socket:
    """A TCP socket; MachineError says who has the port, or that the address is not ours."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise explain(exc, address, port) from exc
    return sock


def explain(exc: OSError, address: str, port: int, protocol: str = "tcp") -> MachineError:
    """What a failed bind means."""
    if exc.errno == errno.EADDRINUSE:
        return taken(protocol, address, port)
    if exc.errno == errno.EADDRNOTAVAIL:
        return MachineError(
            f"address {address} is on no interface of this machine",
            fix=f"give it to the provisioning interface (ip addr add {address}/24 dev …), or correct `server`",
        )
    if exc.errno in (errno.EACCES, errno.EPERM):
        return MachineError(
            f"may not listen on {address} port {port}", fix="run as root, or under the shipped systemd unit"
        )
    return MachineError(f"cannot listen on {address} port {port}", detail=str(exc))


def tls_context(directory: Path) -> ssl.SSLContext:
    """TLS with the server's certificate; read while we are still root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(directory / "server.pem", directory / "server.key")
    except (OSError, ssl.SSLError) as exc:
        raise MachineError(
            f"the server certificate in {directory} cannot be used", detail=str(exc), fix="baremetal init"
        ) from exc
    return context


class Listener:
    """One application on some sockets."""

    def __init__(self, app: web.Application, *, connections: int, tls: ssl.SSLContext | None = None) -> None:
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
        self._tls, self._most = tls, connections
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        handler = self._runner.server
        assert handler is not None
        timeout = HANDSHAKE_S if self._tls else None
        for sock in sockets:
            self._servers.append(
                await loop.create_server(
                    handler, sock=sock, ssl=self._tls, backlog=BACKLOG, ssl_handshake_timeout=timeout
                )
            )
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for server in self._servers:
            server.close()
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
            excess = len(open_now) - self._most
            for connection in sorted(silent, key=since.__getitem__):
                if now - since[connection] >= FIRST_REQUEST_S - SWEEP_S or excess > 0:
                    connection.force_close()
                    excess -= 1
