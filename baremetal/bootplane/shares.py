"""Even shares of the wire for downloads, whoever came first: TCP's own division gives one node a third of another's.

Each download is paced a little above an even share of what the wire was seen to carry. While that still grows
(connections start slowly, more machines join), and where one is slow by itself (its disk, its own port) so that the
wire is not full, the others may take more and more, until it is full. A download that is alone is not paced at all.
Needs Linux: the sockets' TCP_INFO and SO_MAX_PACING_RATE.

    with SHARES.member(transport):
        ...                     # bytes leave
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PERIOD_S = 0.2
ROOM = 1.03  # times the even share; more while the wire is not full or was never seen to carry as much
GREW = 1.005  # times the most that was seen
MORE, LESS = 1.25, 0.65  # how fast that grows and goes back, a period
FULL = 0.95  # of the most that was seen
FADE, PATIENCE = 0.95, 5  # all the room there is, and not full for so many periods: the wire carries less now
LEAST = 256 << 10  # bytes/s: nobody is paced below this
UNPACED = (1 << 64) - 1
SO_MAX_PACING_RATE = 47  # asm-generic/socket.h
_ACKED_AT = 120  # tcpi_bytes_acked in struct tcp_info (linux/tcp.h)


@dataclass(eq=False)
class _Member:
    sock: Any
    acked: int


@dataclass
class Pace:
    """Decides the rate of each download. `most`: bytes/s that all had together in their best period."""

    most: float = 0.0
    total: float = 0.0
    room: float = 2.0  # not more at once: whoever came first would have the wire for the first seconds
    empty: int = 0  # periods with all the room and a wire that is not full

    def next(self, total: float, count: int) -> int:
        """Bytes/s for each of `count` downloads that together had `total` bytes/s."""
        self.total = (self.total + total) / 2 if self.total else total  # a period is short: bursts come and go
        grew = self.total > GREW * self.most
        self.most = max(self.total, self.most * FADE if self.empty > PATIENCE else self.most)
        full = self.total >= FULL * self.most and not grew
        self.empty = self.empty + 1 if self.room >= count and not full else 0
        self.room = max(ROOM, min(count, self.room) * LESS) if full else min(count, self.room * MORE)
        return max(LEAST, int(self.room * self.most / count))


class Shares:
    """The downloads of one boot plane. For one event loop."""

    def __init__(self) -> None:
        self._members: set[_Member] = set()
        self._pace = Pace()
        self._ticking = False
        self._last = 0.0

    @contextlib.contextmanager
    def member(self, transport: asyncio.BaseTransport) -> Iterator[None]:
        """Shares evenly with the other members while this lasts."""
        sock = transport.get_extra_info("socket")
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            yield
            return
        one = _Member(sock, _acked(sock) or 0)
        self._members.add(one)
        if len(self._members) > 1 and not self._ticking:
            self._begin()
        try:
            yield
        finally:
            self._members.discard(one)
            _pace(sock, UNPACED)  # the connection may serve something else next

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._pace, self._ticking, self._last = Pace(), True, loop.time()
        for one in self._members:
            one.acked = _acked(one.sock) or 0
        loop.call_later(PERIOD_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._members) < 2:
            self._ticking = False
            for one in self._members:
                _pace(one.sock, UNPACED)
            return
        now, moved = loop.time(), 0
        passed, self._last = max(now - self._last, 0.01), now
        for one in self._members:
            acked = _acked(one.sock) or one.acked
            moved, one.acked = moved + acked - one.acked, acked
        rate = self._pace.next(moved / passed, len(self._members))
        for one in self._members:
            _pace(one.sock, rate)
        # A thousand downloads are looked at less often: a look costs some 10 µs each.
        loop.call_later(max(PERIOD_S, len(self._members) / 500), self._tick, loop)


def _acked(sock: Any) -> int | None:
    """Bytes that the other side has, over the connection's life."""
    try:
        return int(struct.unpack_from("=Q", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136), _ACKED_AT)[0])
    except (OSError, struct.error, ValueError):
        return None


def _pace(sock: Any, rate: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed meanwhile
        sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=Q", rate))


SHARES = Shares()
