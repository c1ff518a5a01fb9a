"""One UDP conversation with one BMC: send, wait for the answer that fits, send again.

A connected socket, so that "port closed" and "no route" come back as errors
instead of silence.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from baremetal.bmc.faults import BmcUnreachable

T = TypeVar("T")
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 4.0
LARGEST_DATAGRAM = 2048


class Silence(Exception):
    """No fitting answer in time; `heard` tells whether anything at all came."""

    def __init__(self, heard: bool) -> None:
        super().__init__("no answer")
        self.heard = heard


class Conversation:
    """A socket to one BMC and the one question under way.

    `rtt_s` is the longest answer time seen lately; waiting adapts to it, so that
    a BMC 0.7 s away is not flooded with repetitions.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.heard_at = 0.0
        self.rtt_s = 0.0
        self.sent = 0
        self.other: Callable[[bytes], None] | None = None
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._offer: Callable[[bytes], bool] | None = None
        self._failed: asyncio.Future[object] | None = None

    async def open(self) -> None:
        """Resolves the name and connects; no datagram is sent."""
        if self._socket is not None:
            return
        self._loop = asyncio.get_running_loop()
        try:
            family, address = await self._resolve()
            end = socket.socket(family, socket.SOCK_DGRAM)
            end.setblocking(False)
            try:
                end.connect(address)
            except OSError:
                end.close()
                raise
        except OSError as exc:
            raise self._no_route(exc) from exc
        self._socket = end
        self._loop.add_reader(end.fileno(), self._read)

    async def _resolve(self) -> tuple[int, tuple[object, ...]]:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, self.host)
            except OSError:
                continue
            return family, (self.host, self.port)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        return found[0][0], found[0][4]

    def close(self) -> None:
        """Forgets the socket; safe to call twice."""
        end, self._socket = self._socket, None
        if end is not None and self._loop is not None:
            self._loop.remove_reader(end.fileno())
            end.close()

    def send(self, data: bytes) -> None:
        """One datagram; an unreachable network is an error at once, a full buffer counts as lost."""
        if self._socket is None:
            raise BmcUnreachable(f"{self.host}: conversation is closed", cause="closed")
        self.sent += 1
        try:
            self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            raise self._no_route(exc) from exc

    async def ask(
        self, build: Callable[[], bytes], accept: Callable[[bytes], T | None], within_s: float, *, tries: int = 99
    ) -> T:
        """Sends `build()` until `accept` takes an answer, or raises; Silence after `within_s`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def offer(data: bytes) -> bool:
            try:
                result = accept(data)
            except Exception as exc:
                if not future.done():
                    future.set_exception(exc)
                return True
            if result is None:
                return False
            if not future.done():
                future.set_result(result)
            return True

        began = time.monotonic()
        heard_before = self.heard_at
        wait = max(FIRST_WAIT_S, 2 * self.rtt_s)
        self._offer, self._failed = offer, future  # type: ignore[assignment]
        timer: asyncio.TimerHandle | None = None

        def again(number: int, wait_s: float) -> None:
            nonlocal timer
            left = began + within_s - time.monotonic()
            if future.done():
                return
            if number >= tries or left <= 0.005:
                future.set_exception(Silence(self.heard_at > heard_before))
                return
            try:
                self.send(build())
            except BmcUnreachable as exc:
                future.set_exception(exc)
                return
            pause = min(wait_s * random.uniform(0.9, 1.2), max(left, 0.01))
            timer = loop.call_later(pause, again, number + 1, min(wait_s * 1.6, LONGEST_WAIT_S))

        again(0, wait)
        try:
            result = await future
        finally:
            if timer is not None:
                timer.cancel()
            self._offer = self._failed = None
        self.rtt_s = max(0.7 * self.rtt_s, min(time.monotonic() - began, LONGEST_WAIT_S))
        return result

    def _read(self) -> None:
        for _ in range(16):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(LARGEST_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._error(exc)
                return
            self.heard_at = time.monotonic()
            if self._offer is not None and self._offer(data):
                return  # what we waited for; should more be there, the loop says so
            if self.other is not None:
                self.other(data)

    def _error(self, exc: OSError) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(self._no_route(exc))

    def _no_route(self, exc: OSError) -> BmcUnreachable:
        if exc.errno == errno.ECONNREFUSED:
            return BmcUnreachable(
                f"{self.host}: nothing listens on UDP port {self.port}",
                detail="the machine answers with ICMP port unreachable",
                fix="enable IPMI over LAN on the BMC, or correct the address",
                cause="no-rmcp",
                stage="discovery",
            )
        return BmcUnreachable(
            f"{self.host}: no way to the BMC",
            detail=exc.strerror or str(exc),
            fix="check name, route and VLAN",
            cause="no-route",
            stage="discovery",
        )
