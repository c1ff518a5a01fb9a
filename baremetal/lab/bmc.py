"""Virtual BMCs on UDP: any number of them in one event loop, each on its own address.

The protocol is wire/ipmi's; here are sockets, clock and the faults of the wire.
"""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from baremetal.errors import MachineError
from baremetal.lab.faults import WireFaults
from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.server import Server

PORT = 623
_RESET_SILENCE_S = 5.0
_EXPIRY_EVERY_S = 5.0


class VirtualBmc(asyncio.DatagramProtocol):
    """A BMC at an address. `faults` and `bmc.quirks` may be changed while it runs."""

    def __init__(self, bmc: Bmc, address: str, port: int = PORT, faults: WireFaults | None = None) -> None:
        self.bmc = bmc
        self.address = address
        self.port = port
        self.faults = faults or WireFaults()
        self.server = Server(bmc)
        self.datagrams = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._resets = bmc.resets
        self._deaf_until = 0.0
        self._wake: asyncio.TimerHandle | None = None
        #: Where the keys typed over SOL go.
        self.keyboard: Callable[[bytes], object] = lambda _: None

    async def start(self) -> None:
        """Bind the address; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, (self.address, self.port))
        except OSError as exc:
            raise _cannot_bind(self.address, self.port, exc) from exc
        self.port = transport.get_extra_info("sockname")[1]

    def close(self) -> None:
        """Stop answering."""
        if self._wake is not None:
            self._wake.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # it does not always say so (Python 3.11)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.datagrams += 1
        now = time.time()
        faults = self.faults
        if self.deaf or (faults.loss and random.random() < faults.loss):
            return
        for reply in self.server.receive(data, now, addr):
            self._send(reply, addr)
        if self.bmc.sol is not None or self.server.outbox:
            self._serial()
        self.noticed()

    def error_received(self, exc: Exception) -> None:
        """A client went away (ICMP port unreachable): not our business."""

    def printed(self, data: bytes) -> None:
        """The machine wrote to its serial port."""
        if self.bmc.sol is not None and not self.faults.silent:
            self.server.printed(data, time.time())
            self._serial()

    def _serial(self) -> None:
        """Send what the serial line has to say, hand on what was typed, set the alarm for repetitions."""
        if keys := self.server.typed():
            self.keyboard(keys)
        outbox, self.server.outbox = self.server.outbox, []
        for peer, datagram in outbox:
            self._send(datagram, cast(tuple[str, int], peer))
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if (at := self.server.wake_at) is not None:
            self._wake = asyncio.get_running_loop().call_later(max(0.0, at - time.time()), self._repeat)

    def _repeat(self) -> None:
        self._wake = None
        self.server.tick(time.time())
        self._serial()

    def _send(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        faults = self.faults
        if faults.loss and random.random() < faults.loss:
            return
        if faults.latency_s:
            asyncio.get_running_loop().call_later(faults.latency_s, self._send_now, data, addr)
        else:
            self._send_now(data, addr)

    def _send_now(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if self._transport is not None:
            self._transport.sendto(data, addr)

    @property
    def deaf(self) -> bool:
        """Does it answer nothing just now: silenced, or restarting?"""
        return self.faults.silent or time.time() < self._deaf_until

    def noticed(self) -> None:
        """After a command by either face: a BMC reset ends all sessions, and nothing is heard for a while."""
        if self.bmc.resets != self._resets:
            self._resets = self.bmc.resets
            self.server.drop_all()
            self._deaf_until = time.time() + _RESET_SILENCE_S


class Fleet:
    """Many BMCs and the one timer that expires their sessions."""

    def __init__(self, bmcs: Iterable[VirtualBmc]) -> None:
        self.bmcs = list(bmcs)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Fleet:
        try:
            for bmc in self.bmcs:
                await bmc.start()
        except BaseException:
            self.close()
            raise
        self._tick()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all."""
        if self._timer is not None:
            self._timer.cancel()
        for bmc in self.bmcs:
            bmc.close()

    def _tick(self) -> None:
        now = time.time()
        for bmc in self.bmcs:
            if bmc.server.sessions:
                bmc.server.expire(now)
        self._timer = asyncio.get_running_loop().call_later(_EXPIRY_EVERY_S, self._tick)


def _cannot_bind(address: str, port: int, exc: OSError) -> MachineError:
    reasons = {
        errno.EADDRINUSE: ("another program has it", "stop it, or choose other addresses"),
        errno.EADDRNOTAVAIL: ("this machine does not have the address", f"ip address add {address}/32 dev lo"),
        errno.EACCES: ("ports below 1024 need root", "run as root, or choose a port: --port 9623"),
    }
    detail, fix = reasons.get(exc.errno or 0, (exc.strerror or str(exc), ""))
    return MachineError(f"BMC address {address} port {port}/udp cannot be bound", detail=detail, fix=fix)
