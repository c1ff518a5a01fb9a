"""Hears other DHCP servers on an interface: asks once at the start, listens for ever.

A rival is told as an event. `baremetal doctor` asks with scapy (serve/rivals.py);
this one must run beside the server for weeks, so the kernel filters: only
frames from UDP port 67 of other machines wake it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import secrets
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from baremetal.wire.dhcp4 import packet
from baremetal.wire.dhcp4.frame import BROADCAST_IP, BROADCAST_MAC, Framer

ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
TOLD_AGAIN_S = 600.0
LISTEN_S = 2.0
# A server of our site that has just begun may be heard before we are told of it.
UNSURE_S = 5.0
# (code, jt, jf, k): IPv4, UDP, first fragment, source port 67; X is the IP header's length.
_FILTER = (
    (0x28, 0, 0, 12),
    (0x15, 0, 8, ETH_P_IP),
    (0x30, 0, 0, 23),
    (0x15, 0, 6, 17),
    (0x28, 0, 0, 20),
    (0x45, 4, 0, 0x1FFF),
    (0xB1, 0, 0, 14),
    (0x48, 0, 0, 14),
    (0x15, 0, 1, 67),
    (0x06, 0, 0, 1600),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True)
class Rival:
    """Another DHCP server: its server id and the hardware address its answer came from."""

    server: str
    mac: str


class RivalWatch:
    """`ask()` sends one DISCOVER from a made-up MAC; every rival heard, asked or not, goes to `on_rival`."""

    def __init__(self, interface: str, ours: str, on_rival: Callable[[Rival], None]) -> None:
        self.interface, self.ours = interface, ours
        self.heard: dict[Rival, float] = {}
        self.peers: frozenset[str] = frozenset()  # other servers of our own site: no rivals
        self.unsure: dict[Rival, float] = {}  # heard, and perhaps a server of our site that we did not hear of yet
        self._shared = False
        self._on_rival = on_rival
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to listen. OSError when the interface is not there."""
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        try:
            _attach(sock)
            with contextlib.suppress(OSError):  # Linux 4.20
                sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            sock.bind((self.interface, ETH_P_IP))
        except BaseException:
            sock.close()
            raise
        self._loop, self._sock = loop, sock
        loop.add_reader(sock, self._readable)

    def ask(self) -> None:
        """One DISCOVER that no server may take for a known machine; the lease is never taken."""
        if self._sock is None:
            return
        mac = b"\x02" + secrets.token_bytes(5)  # locally administered
        options = {53: bytes((packet.DISCOVER,)), 55: bytes((1, 3, 6, 54))}
        question = packet.Packet(
            packet.BOOTREQUEST, 1, secrets.randbits(32), mac.hex(":"), broadcast=True, options=options
        )
        frame = Framer(mac, bytes(4), 68, 67).frame(BROADCAST_MAC, BROADCAST_IP, packet.build(question))
        with contextlib.suppress(OSError):
            self._sock.send(frame)

    def know(self, peers: frozenset[str]) -> bool:
        """Who the servers of our site are (empty: not known yet). True when a rival turned out to be one of them."""
        self._shared, self.peers = True, peers
        if not peers:
            return False
        now = time.monotonic()
        for rival, since in list(self.unsure.items()):
            if rival.server in peers or now - since > UNSURE_S:
                del self.unsure[rival]
            if rival.server not in peers and now - since > UNSURE_S:
                self._alarm(rival)
        ours = [rival for rival in self.heard if rival.server in peers]
        for rival in ours:
            del self.heard[rival]
        return bool(ours)

    def close(self) -> None:
        if self._sock is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def _readable(self) -> None:
        assert self._sock is not None
        with contextlib.suppress(OSError):
            for _ in range(32):
                rival = rival_of(self._sock.recv(1600), self.ours)
                if rival is not None:
                    self._meet(rival)

    def _meet(self, rival: Rival) -> None:
        if rival.server in self.peers:
            return
        if self._shared and rival not in self.heard:
            self.unsure.setdefault(rival, time.monotonic())
            return
        self._alarm(rival)

    def _alarm(self, rival: Rival) -> None:
        now = time.monotonic()
        last = self.heard.get(rival)
        if len(self.heard) > 256:
            self.heard.clear()
        self.heard[rival] = now
        if last is None or now - last > TOLD_AGAIN_S:
            self._on_rival(rival)


def rival_of(frame: bytes, ours: str) -> Rival | None:
    """The server that sent this frame, when it is a DHCP answer and not a relay's copy of ours."""
    start = 14 + (frame[14] & 15) * 4 + 8 if len(frame) > 14 else 0
    try:
        reply = packet.parse(frame[start:])
    except packet.BadPacket:
        return None
    named = reply.options.get(54, b"")
    server = packet.quad(named) if len(named) == 4 else packet.quad(frame[26:30])
    if reply.op != packet.BOOTREPLY or server == ours or reply.type not in (packet.OFFER, packet.ACK, packet.NAK):
        return None
    return Rival(server, frame[6:12].hex(":"))


def _attach(sock: socket.socket) -> None:
    """Classic BPF program (linux/filter.h)."""
    code = b"".join(struct.pack("HBBI", *step) for step in _FILTER)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_FILTER), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
