"""Coverage-guided fuzzing of every parser that reads the wire: any bytes give a packet or a clean error.

How the fuzzer works: conftest.py, one folder up.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baremetal.boot.decide import Urls, decide
from baremetal.bootplane.conditions import conditions
from baremetal.bootplane.files import span_of
from baremetal.bootplane.quick import Front
from baremetal.model.network import Mode, Network
from baremetal.serve.loaders import read_loaders
from baremetal.serve.rivalwatch import rival_of
from baremetal.wire import nd, pxe
from baremetal.wire.dhcp4 import packet as dhcp
from baremetal.wire.dhcp4.layout import Layouts
from baremetal.wire.dhcp4.server import Server
from baremetal.wire.story import Frame, tell
from baremetal.wire.tftp import packet as tftp
from baremetal.wire.tftp.blocks import Blocks, PageCache
from baremetal.wire.tftp.transfer import Transfer, negotiate

CORPUS = Path(__file__).parents[2] / "data" / "fuzz"
PACKAGE = Path(dhcp.__file__).parents[2]
# Lines that count.
WATCHED = (
    str(PACKAGE / "wire"),
    str(PACKAGE / "bootplane" / "quick.py"),
    str(PACKAGE / "bootplane" / "conditions.py"),
    str(PACKAGE / "bootplane" / "files.py"),
)
NETWORK = Network("n", "eth0", "10.0.0.0/16", "10.0.0.1", "10.0.1.1", "10.0.250.250", mode=Mode.ANYBODY)
ANSWERS = functools.partial(decide, urls=Urls(http="http://10.0.0.1:8080", loaders=read_loaders()))
INTERESTING = [
    b"\0",
    b"\xff",
    b"\x35\x01\x01",
    b"\x35\x01\x03",
    b"\x34\x01\x03",
    b"\x52\x06\x05\x04\x0a\0\0\1",
    b"\x32\x04\x0a\0\1\5",
    b"\x36\x04\x0a\0\0\1",
    b"\x5d\x02\0\7",
    b"blksize\x009\0",
    b"windowsize\0",
    b"tsize\0",
    b"octet\0",
    b"..",
    dhcp.MAGIC,
    b"GET /a.ipxe HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"\r\n",
    b"Connection: close\r\n",
    b"Content-Length: 1\r\n",
    b"bytes=",
    b"0-9",
    b'"abc"',
    b"Tue, 14 Nov 2023 22:13:20 GMT",
    b"\n",
]


def read_dhcp(data: bytes) -> None:
    message = dhcp.parse(data)
    pxe.client(message.options, message.mac)
    dhcp.parse(dhcp.build(message))


def serve_dhcp(data: bytes) -> None:
    server = Server([NETWORK], ANSWERS)
    for now in (1.0, 2.0):
        sent = server.receive(data, now)
        if sent is not None:
            dhcp.parse(sent[0])
        server.receive_boot(data, now)


def read_tftp(data: bytes) -> None:
    request = tftp.parse_request(data)
    terms = negotiate(request, 100, 1468)
    Transfer(Blocks("f", 100, terms.blksize, lambda o, n: bytes(100)[o : o + n], PageCache()), terms, 0.0).first()


def run_tftp(data: bytes) -> None:
    content = bytes(3000)
    request = tftp.Request("f", "octet", {"windowsize": "3", "blksize": "64"})
    run = Transfer(
        Blocks("f", 3000, 64, lambda o, n: content[o : o + n], PageCache()), negotiate(request, 3000, 1468), 0.0
    )
    run.first()
    for at in range(0, len(data), 4):
        run.receive(data[at : at + 4], at / 10)
        run.tick(at / 10)


def read_ra(data: bytes) -> None:
    nd.is_solicitation(data)
    nd.parse_advertisement(data)


def hear_rival(data: bytes) -> None:
    rival_of(data, "10.0.0.1")


def tell_story(data: bytes) -> None:
    ports = [(68, 67), (67, 68), (3000, 69), (69, 3000), (4011, 4011)]
    tell(Frame(float(n), "a", "b", "10.0.0.9", "10.0.0.1", "udp", *p, data) for n, p in enumerate(ports))


def read_alike(data: bytes) -> None:
    """Two messages of one size: the second is cut as the first was, and that must be what the walk gives."""
    layouts, half = Layouts(), len(data) // 2
    for piece in (data[:half], data[half : 2 * half]) * 2:
        message = (bytes(236) + dhcp.MAGIC + piece).ljust(300, b"\0")
        try:
            wanted: object = dhcp.read(message)
        except dhcp.BadPacket:
            wanted = None
        try:
            got: object = layouts.read(message)
        except dhcp.BadPacket:
            got = None
        assert got == wanted


class Wire(asyncio.Transport):
    """Takes what is written, and counts hand-overs."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""

    def write(self, data: Any) -> None:
        self.out += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def set_protocol(self, protocol: Any) -> None: ...


def hear_http(data: bytes) -> None:
    """Either the front answers one whole response, or aiohttp gets every byte."""
    wire, heard = Wire(), []
    full = type("Full", (asyncio.Protocol,), {"data_received": lambda _self, d: heard.append(d)})
    front = Front(full, lambda path, _t: "#!ipxe\n" if path.endswith(".ipxe") else None, set())
    front.connection_made(wire)
    front.data_received(data)
    assert heard in ([], [data])
    assert bool(heard) != wire.out.startswith(b"HTTP/1.1 200 OK\r\n")


def ask_for_ranges(data: bytes) -> None:
    words = data.decode("latin-1").split("\n")
    names = ("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
    headers = dict(zip(names, words, strict=False))
    assert conditions(headers, '"abc"', 1_700_000_000).status in (200, 304, 412)
    for size in (0, 1, 1000):
        span = span_of(headers.get("Range"), size)
        assert 0 <= span.first <= span.first + span.count <= size


PARSERS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (
        read_dhcp, read_alike, serve_dhcp, read_tftp, run_tftp, read_ra, hear_rival, tell_story, hear_http,
        ask_for_ranges,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_any_bytes(name: str, climb: Any, mutation: Any) -> None:
    climb(PARSERS[name], CORPUS / name, WATCHED, mutation(INTERESTING, 1500))
