"""A minimal client side of RMCP+, written from the specification and not from our server."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

import pytest

from baremetal.wire.ipmi import crypto, rmcp
from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.codes import ChassisControl
from baremetal.wire.ipmi.message import Request, build_request
from baremetal.wire.ipmi.server import Server
from baremetal.wire.ipmi.session import Session

CONSOLE_ID = 0xA4A3A2A0
RANDOM = bytes(range(16))
HASH = {3: hashlib.sha1, 17: hashlib.sha256}


@dataclass
class Switch:
    """A chassis that remembers its orders."""

    on: bool = False
    orders: list[ChassisControl] = field(default_factory=list)

    def powered(self) -> bool:
        return self.on

    def control(self, order: ChassisControl) -> None:
        self.orders.append(order)
        self.on = order not in (ChassisControl.OFF, ChassisControl.SOFT)


class Client:
    """Speaks to a Server by calling it. `now` is the clock of both."""

    def __init__(self, server: Server, suite: int = 3, name: bytes = b"admin", password: bytes = b"secret") -> None:
        self.server, self.suite, self.name = server, suite, name
        self.password = password.ljust(20, b"\0")
        self.now = 1000.0
        self.session: Session | None = None
        self.seq = 0

    def send(self, kind: int, payload: bytes, tag_at: int = 0) -> bytes | None:
        replies = self.server.receive(rmcp.packet20(kind, payload), self.now, "peer")
        if not replies:
            return None
        packet = rmcp.parse(replies[0])
        assert isinstance(packet, rmcp.Packet20)
        return packet.payload

    def open(self, privilege: int = 4) -> bytes:
        suite = crypto.SUITES[self.suite]
        records = b"".join(
            bytes((kind, 0, 0, 8, number, 0, 0, 0))
            for kind, number in enumerate((suite.auth, suite.integrity, suite.confidentiality))
        )
        reply = self.send(0x10, bytes((1, privilege, 0, 0)) + struct.pack("<I", CONSOLE_ID) + records)
        assert reply is not None
        return reply

    def rakp1(self, session_id: bytes, privilege: int = 4) -> bytes:
        role = bytes((0x10 | privilege,))
        payload = b"\2\0\0\0" + session_id + RANDOM + role + b"\0\0" + bytes((len(self.name),)) + self.name
        reply = self.send(0x12, payload)
        assert reply is not None
        return reply

    def mac(self, key: bytes, *parts: bytes) -> bytes:
        return hmac.new(key, b"".join(parts), HASH[self.suite]).digest()

    def login(self, privilege: int = 4) -> tuple[str, int]:
        """("open"|"rakp2"|"rakp4", status): where the login ended and with which status."""
        opened = self.open(privilege)
        if opened[1]:
            return "open", opened[1]
        session_id = opened[8:12]
        two = self.rakp1(session_id, privilege)
        if two[1]:
            return "rakp2", two[1]
        bmc_random = two[8:24]
        tail = bytes((0x10 | privilege, len(self.name))) + self.name
        code = self.mac(self.password, bmc_random, struct.pack("<I", CONSOLE_ID), tail)
        four = self.send(0x14, b"\3\0\0\0" + session_id + code)
        assert four is not None
        if not four[1]:
            sik = self.mac(self.password, RANDOM, bmc_random, tail)
            expected = self.mac(sik, RANDOM, session_id, two[24:40])
            assert four[8:] == expected[: 12 if self.suite == 3 else 16]
            self.session = Session(
                struct.unpack("<I", session_id)[0], struct.unpack("<I", session_id)[0], crypto.SUITES[self.suite], 4
            )
            self.session.derive(sik)
        return "rakp4", four[1]

    def datagram(self, netfn: int, cmd: int, data: bytes = b"") -> bytes:
        self.seq = (self.seq + 1) & 0x3F
        assert self.session is not None
        return self.session.seal(0, build_request(Request(netfn, cmd, data, seq=self.seq)), bytes(16))

    def command(self, netfn: int, cmd: int, data: bytes = b"") -> bytes | None:
        """Completion code and data, or None when nothing came."""
        replies = self.server.receive(self.datagram(netfn, cmd, data), self.now, "peer")
        if not replies:
            return None
        packet = rmcp.parse(replies[0])
        assert isinstance(packet, rmcp.Packet20)
        assert packet.session_id == CONSOLE_ID
        assert self.session is not None
        message = self.session.open_(packet)
        assert message is not None
        return message[6:-1]

    def sessionless(self, netfn: int, cmd: int, data: bytes = b"") -> bytes | None:
        message = build_request(Request(netfn, cmd, data))
        replies = self.server.receive(rmcp.packet15(message), self.now, "peer")
        return rmcp.parse(replies[0]).message[6:-1] if replies else None


@pytest.fixture
def bmc() -> Bmc:
    from baremetal.wire.ipmi.users import one_admin

    return Bmc(Switch(), users=one_admin("admin", "secret"))


@pytest.fixture
def server(bmc: Bmc) -> Server:
    return Server(bmc)


@pytest.fixture
def connect(server: Server):
    """Make a Client; logged in unless `login=False`."""

    def make(login: bool = True, privilege: int = 4, **options) -> Client:
        client = Client(server, **options)
        if login:
            assert client.login(privilege) == ("rakp4", 0)
            client.command(6, 0x3B, bytes((privilege,)))
        return client

    return make
