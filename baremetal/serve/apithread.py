"""The API's own thread and event loop: who only looks does not wait behind passes that work.

Looks of /v1 are answered here, from the store's readers. Everything else is
carried out on the control loop, where the conductor lives: one hop there, one
back (a stream hops for each piece). Sockets, authentication and the audit log
are this thread's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Coroutine, MutableMapping
from typing import Any, TypeVar

from baremetal.api.app import Application
from baremetal.api.http import App, BadRequest, Receive, Scope, Send, check_length, send_reply
from baremetal.serve.asgi import AsgiServer

T = TypeVar("T")
Message = MutableMapping[str, Any]
CLOSE_S = 5.0


class ApiThread:
    """Made on the control loop; listens when it is told to."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)
        self._servers: list[AsgiServer] = []
        self._thread.start()

    async def listen(self, app: App, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serve this application (a Front somewhere inside) on a socket."""
        server = AsgiServer(app)
        await self._there(server.start(sock, tls))
        self._servers.append(server)

    async def close(self) -> None:
        """Answer what is under way, then end."""
        try:
            async with asyncio.timeout(CLOSE_S):
                for server in self._servers:
                    await self._there(server.close())
                await self._there(_end_all())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join, CLOSE_S)

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


async def _end_all() -> None:
    """Whatever still runs on this loop: held requests whose application was on the other one."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class Front:
    """ASGI on the API's loop: looks are answered here, the rest on the control loop."""

    def __init__(self, app: Application, control: asyncio.AbstractEventLoop) -> None:
        self._app, self._control = app, control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app.only_looks(scope):
            await self._app(scope, receive, send)
            return
        try:
            check_length(scope)
            first = await receive()
        except BadRequest as exc:
            await send_reply(send, self._app.bad(scope, exc))
            return
        hop = _Hop(first, receive, send, asyncio.get_running_loop())
        work = asyncio.run_coroutine_threadsafe(self._run(scope, hop), self._control)
        try:
            await asyncio.wrap_future(work)
        except Exception:
            if not hop.held:
                raise  # else the application has logged it, and its answer says what the client is to know
        for message in hop.held:
            await send(message)

    async def _run(self, scope: Scope, hop: _Hop) -> None:
        await self._app(scope, hop.receive, hop.send)


class _Hop:
    """receive and send as the application on the control loop sees them."""

    def __init__(self, first: Message, receive: Receive, send: Send, api: asyncio.AbstractEventLoop) -> None:
        self._first: Message | None = first
        self._receive, self._send, self._api = receive, send, api
        self.held: list[Message] = []  # an answer in one piece goes back with the hop itself

    async def receive(self) -> Message:
        """The body was read already; after that only the end of the connection can come."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        message: Message = await self._there(self._receive())
        return message

    async def send(self, message: Message) -> None:
        """Held back while it is the whole answer."""
        if message["type"] == "http.response.start" or not message.get("more_body"):
            self.held.append(message)
            return
        held, self.held = self.held, []
        for one in (*held, message):
            await self._there(self._send(one))

    async def _there(self, work: Coroutine[Any, Any, T] | Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._api))
