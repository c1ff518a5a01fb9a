"""Router advertisements on one interface: opt-in per network, lifetime 0, silent beside another router."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from baremetal.errors import MachineError
from baremetal.model.network import Network
from baremetal.serve.sockets import bind_to_device, hardware_address
from baremetal.wire import nd

EVERY_S = 60.0
OTHER_ROUTER_S = 1800.0  # another router heard: silent for as long as it may still be there
ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"
ICMP6_FILTER = 1
OnEvent = Callable[[dict[str, Any]], None]


class RouterAdvertiser:
    """Answers router solicitations on `network.interface` with `network.ra_prefix`."""

    def __init__(self, network: Network, on_event: OnEvent) -> None:
        if network.ra_prefix is None:
            raise MachineError(f"network {network.name} has no prefix to advertise", fix="set its ra_prefix")
        self.network = network
        self._on_event = on_event
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._message = b""
        self._index = 0
        self._quiet_until = 0.0

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Listen and advertise; raises MachineError with what to do."""
        self._loop = loop or asyncio.get_running_loop()
        name = self.network.interface
        assert self.network.ra_prefix is not None
        self._message = nd.advertisement(self.network.ra_prefix, hardware_address(name))
        try:
            self._sock = self._open(name)
        except OSError as exc:
            raise MachineError(
                f"cannot advertise IPv6 on {name}",
                detail=str(exc),
                fix="is IPv6 enabled there? leave ra_prefix out otherwise",
            ) from exc
        self._loop.add_reader(self._sock, self._readable)
        self._timer = self._loop.call_soon(self._advertise)  # type: ignore[assignment]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sock is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def _open(self, name: str) -> socket.socket:
        sock = socket.socket(
            socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6
        )
        try:
            bind_to_device(sock, name)
            self._index = socket.if_nametoindex(name)
            sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, _only(nd.SOLICITATION, nd.ADVERTISEMENT))
            # A receiver drops router messages that came through a router (RFC 4861 §6.1).
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            for group in (ALL_NODES, ALL_ROUTERS):
                request = ipaddress.IPv6Address(group).packed + struct.pack("@I", self._index)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        except BaseException:
            sock.close()
            raise
        return sock

    def _reopen(self) -> None:
        """The interface went away and came back: it is another one to the kernel."""
        assert self._loop is not None
        sock = self._open(self.network.interface)
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        self._sock = sock
        self._loop.add_reader(sock, self._readable)

    def _readable(self) -> None:
        assert self._sock is not None
        with contextlib.suppress(BlockingIOError):
            for _ in range(32):
                data, source = self._sock.recvfrom(1500)
                if nd.is_solicitation(data):
                    self._say()
                    continue
                with contextlib.suppress(nd.BadMessage):
                    other = nd.parse_advertisement(data)
                    if other is not None and other.lifetime_s > 0:
                        self._yield_to(source[0])

    def _yield_to(self, router: str) -> None:
        """A real router is here: it is asked by everybody, we say nothing."""
        now = time.monotonic()
        if now > self._quiet_until:
            self._tell(f"silent: {router} advertises itself as router")
        self._quiet_until = now + OTHER_ROUTER_S

    def _advertise(self) -> None:
        assert self._loop is not None
        with contextlib.suppress(OSError, MachineError):  # the interface is away: at the next round
            if socket.if_nametoindex(self.network.interface) != self._index:
                self._reopen()
        self._say()
        self._timer = self._loop.call_later(EVERY_S, self._advertise)

    def _say(self) -> None:
        if self._sock is None or time.monotonic() <= self._quiet_until:
            return
        # Without a link-local address yet, or with the link down, the next round says it.
        with contextlib.suppress(OSError):
            self._sock.sendto(self._message, (ALL_NODES, 0, 0, self._index))

    def _tell(self, detail: str) -> None:
        self._on_event(
            {"kind": "serving", "node": None, "body": {"service": f"ra:{self.network.name}", "detail": detail}}
        )


def _only(*types: int) -> bytes:
    """struct icmp6_filter that passes these types: a set bit blocks."""
    words = [0xFFFFFFFF] * 8
    for kind in types:
        words[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
    return struct.pack("=8I", *words)
