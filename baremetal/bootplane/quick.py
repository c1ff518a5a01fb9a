"""Small answers by HTTP at a third of the cost: plain requests for them are answered here, all others by aiohttp.

    factory = Front.factory(server, answers, fronts)      # for loop.create_server

A thousand machines switched on at once ask for a thousand boot scripts, each on
a connection of its own. Most of what that costs is aiohttp's task, request and
response objects. A request that is one GET in one piece, without a body or
anything unusual about it, is answered from `answers(path, transport)`; when
that gives None, or the request is not so plain, the connection is aiohttp's
from there on.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from email.utils import formatdate

# Text of an answer, None: not one of ours.
Answers = Callable[[str, asyncio.Transport], str | None]
LONGEST = 2048  # bytes of a plain request; iPXE sends about 150
UNREAD = 64 << 10  # bytes of answers that wait for a client; iPXE leaves none
_PLAIN = re.compile(rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z-]+:[ -~\t]*\r\n)+)\r\n")
# Leave it to aiohttp: a body, another protocol, a condition.
_UNUSUAL = re.compile(rb"^(?:content-|transfer-|expect|upgrade|if-|range)", re.IGNORECASE | re.MULTILINE)
_HOST = re.compile(rb"^host:", re.IGNORECASE | re.MULTILINE)
_CLOSE = re.compile(rb"^connection:[^\r]*close", re.IGNORECASE | re.MULTILINE)


class Front(asyncio.Protocol):
    """One connection, until aiohttp takes it. `since`: last sign of life, seconds of the loop's clock."""

    def __init__(self, full: Callable[[], asyncio.Protocol], answers: Answers, fronts: set[Front]) -> None:
        self._full, self._answers, self._fronts = full, answers, fronts
        self._transport: asyncio.Transport | None = None
        self.since = 0.0
        self.served = 0

    @classmethod
    def factory(
        cls, full: Callable[[], asyncio.Protocol], answers: Answers, fronts: set[Front]
    ) -> Callable[[], asyncio.Protocol]:
        """`full` makes aiohttp's protocol; `fronts` is kept to those that are open."""
        return lambda: cls(full, answers, fronts)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.since = time.monotonic()
        self._fronts.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fronts.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > UNREAD:  # it asks, and takes no answer
            transport.abort()
            return
        plain = _PLAIN.fullmatch(data) if len(data) <= LONGEST else None
        if plain is not None:
            headers = plain[2]
            if _HOST.search(headers) and not _UNUSUAL.search(headers):
                text = self._ask(plain[1].decode(), transport)
                if text is not None:
                    self._answer(transport, text, close=_CLOSE.search(headers) is not None)
                    return
        self._hand_over(transport, data)

    def close(self) -> None:
        """At once: a client that takes no answer would keep what is left of it for ever."""
        if self._transport is not None:
            self._transport.abort()

    def _ask(self, path: str, transport: asyncio.Transport) -> str | None:
        try:
            return self._answers(path, transport)
        except Exception:  # aiohttp asks again, logs it, and tells the client
            return None

    def _answer(self, transport: asyncio.Transport, text: str, *, close: bool) -> None:
        body = text.encode()
        transport.write(b"%b%d\r\n%b%b\r\n%b" % (_HEAD, len(body), _date(), b"Connection: close\r\n" * close, body))
        self.since = time.monotonic()
        self.served += 1
        if close:
            transport.close()

    def _hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        full = self._full()
        self._fronts.discard(self)
        self._transport = None
        full.connection_made(transport)
        transport.set_protocol(full)
        full.data_received(data)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: "
_dated: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The Date header (RFC 9110 §6.6.1), made once a second."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode())
    return _dated[1]
