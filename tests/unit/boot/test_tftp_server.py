"""The TFTP server on loopback, spoken to datagram by datagram: who is served, who is refused, what a repeat does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from baremetal.serve.tftp import TftpServer
from baremetal.wire.tftp import packet as t

CONTENT = bytes(range(256)) * 8  # four blocks of 512 and an empty one
FIRST = CONTENT[:512]


class Reader:
    """A client with a port of its own."""

    def __init__(self, server: TftpServer) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.server = ("127.0.0.1", server.port)
        self.tid: Any = None

    async def heard(self, wait_s: float = 2.0) -> bytes | None:
        """The next datagram; None when none comes."""
        loop = asyncio.get_running_loop()
        try:
            data, self.tid = await asyncio.wait_for(loop.sock_recvfrom(self.sock, 2048), wait_s)
        except TimeoutError:
            return None
        return data

    async def ask(self, data: bytes) -> bytes | None:
        self.sock.sendto(data, self.server)
        return await self.heard()

    async def say(self, data: bytes) -> bytes | None:
        self.sock.sendto(data, self.tid)
        return await self.heard()


@pytest.fixture
async def events() -> list[dict[str, Any]]:
    return []


@pytest.fixture
async def server(events: list[dict[str, Any]]) -> AsyncIterator[TftpServer]:
    made = TftpServer("127.0.0.1", 0, {"f": CONTENT}, events.append, per_client=3, most=5)
    made.start()
    yield made
    made.close()


@pytest.fixture
def reader(server: TftpServer) -> Iterator[Reader]:
    made = Reader(server)
    yield made
    made.sock.close()


async def test_a_repeated_request_does_not_end_a_transfer_that_has_begun(server: TftpServer, reader: Reader) -> None:
    assert await reader.ask(t.request("f")) == b"\0\3\0\1" + FIRST
    tid = reader.tid
    assert (await reader.say(t.ack(1)) or b"")[:4] == b"\0\3\0\2"
    reader.sock.sendto(t.request("f"), reader.server)  # it had been on its way all the time
    assert (await reader.say(t.ack(2)) or b"")[:4] == b"\0\3\0\3"
    assert reader.tid == tid
    assert len(server) == 1


async def test_another_request_from_the_same_port_begins_anew(server: TftpServer, reader: Reader) -> None:
    assert await reader.ask(t.request("f")) == b"\0\3\0\1" + FIRST
    tid = reader.tid
    assert await reader.ask(t.request("f", options={"tsize": "0"})) == b"\0\x06tsize\x002048\0"
    assert reader.tid != tid
    assert len(server) == 1


async def test_a_stranger_at_a_transfers_port_is_told_so_and_disturbs_nothing(
    server: TftpServer, reader: Reader
) -> None:
    await reader.ask(t.request("f"))
    stranger = Reader(server)
    stranger.tid = reader.tid
    assert (await stranger.say(t.ack(1)) or b"")[:4] == bytes((0, t.ERROR, 0, t.UNKNOWN_TID))
    assert (await reader.say(t.ack(1)) or b"")[:4] == b"\0\3\0\2"
    stranger.sock.close()


async def test_one_clients_transfers_are_limited(server: TftpServer, events: list[dict[str, Any]]) -> None:
    readers = [Reader(server) for _ in range(4)]
    for one in readers[:3]:
        await one.ask(t.request("f"))
        await one.say(t.ack(1))
    refused = await readers[3].ask(t.request("f"))
    assert refused is not None
    assert refused[:4] == bytes((0, t.ERROR, 0, t.NOT_DEFINED))
    assert b"too many transfers" in refused
    assert events[-1]["kind"] == "refused"
    assert (await readers[0].say(t.ack(2)) or b"")[:4] == b"\0\3\0\3"  # those under way go on
    for one in readers:
        one.sock.close()


async def test_who_never_said_a_word_makes_room(server: TftpServer) -> None:
    """Requests with spoofed ports must not lock the machine out that really boots."""
    readers = [Reader(server) for _ in range(5)]
    for one in readers:
        assert await one.ask(t.request("f")) == b"\0\3\0\1" + FIRST
    assert len(server) == 3
    assert (await readers[4].say(t.ack(1)) or b"")[:4] == b"\0\3\0\2"
    for one in readers:
        one.sock.close()


HOSTILE = [  # what comes to port 69, and the error code that answers it; None: silence
    (b"", None),
    (b"\0", None),
    (b"\0\1", None),
    (b"\0\4\0\1", None),
    (b"\0\5\0\1no\0", None),
    (b"\0\2f\0octet\0", t.ACCESS),
    (b"\0\1f\0octet", t.ILLEGAL),
    (b"\0\1f\0", t.ILLEGAL),
    (b"\0\1f\0mail\0", t.ILLEGAL),
    (b"\0\1\0octet\0", t.NOT_FOUND),
    (b"\0\1\xff\xfe\0octet\0", t.NOT_FOUND),
    (b"\0\1../f\0octet\0", t.ACCESS),
    (b"\0\1" + b"x" * 600 + b"\0octet\0", t.NOT_FOUND),
    (b"\0\1f\0octet\0" + b"a\0b\0" * 400, t.ILLEGAL),
]


@pytest.mark.parametrize(("data", "code"), HOSTILE, ids=[repr(h[0][:16]) for h in HOSTILE])
async def test_hostile_requests(server: TftpServer, reader: Reader, data: bytes, code: int | None) -> None:
    reader.sock.sendto(data, reader.server)
    answer = await reader.heard(0.15 if code is None else 2.0)
    assert answer is None if code is None else (answer or b"")[:4] == bytes((0, t.ERROR, 0, code))
    assert await reader.ask(t.request("f")) == b"\0\3\0\1" + FIRST  # and the service goes on
