"""Plain requests are answered before aiohttp; everything else is aiohttp's, on the same connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from conftest_bootplane import MAC

from baremetal.bootplane.quick import UNREAD, Front

SCRIPT = f"/boot/{MAC.replace(':', '-')}.ipxe"
PLAIN = f"GET {SCRIPT} HTTP/1.1\r\nHost: x\r\nUser-Agent: iPXE/1.21.1\r\nConnection: keep-alive\r\n\r\n"


async def talk(rig, *pieces: str, pause_s: float = 0.0, answers: int = 1) -> str:
    """What comes back until so many answers came and then nothing for a while, or the server has closed."""
    host, port = rig.http.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for piece in pieces:
        writer.write(piece.encode("latin-1"))
        await writer.drain()
        await asyncio.sleep(pause_s)
    got = b""
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.2 if got.count(b"HTTP/1.") >= answers else 60):
                piece_back = await reader.read(1 << 16)
            if not piece_back:
                break
            got += piece_back
    writer.close()
    return got.decode("latin-1")


def status(said: str) -> str:
    return said.split("\r\n", 1)[0]


async def test_one_connection_several_scripts(rig) -> None:
    said = await talk(rig, PLAIN, PLAIN, pause_s=0.05, answers=2)
    assert said.count("HTTP/1.1 200 OK") == 2
    assert said.count("#!ipxe") == 2
    assert "Date: " in said


async def test_a_script_then_a_file_on_one_connection(rig) -> None:
    said = await talk(rig, PLAIN, "HEAD /artifacts/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n", PLAIN, pause_s=0.05, answers=3)
    assert [line for line in said.splitlines() if line.startswith("HTTP/")] == ["HTTP/1.1 200 OK"] * 3
    assert "Content-Length: 1048576" in said
    assert said.count("#!ipxe") == 2  # the last one by aiohttp


async def test_close_means_close(rig) -> None:
    said = await talk(rig, PLAIN.replace("keep-alive", "close"))
    assert "\r\nConnection: close\r\n" in said
    assert "#!ipxe" in said


SAME = [  # what aiohttp answers, or what both answer alike
    ("in two pieces", (PLAIN[:20], PLAIN[20:]), "HTTP/1.1 200 OK"),
    ("two at once", (PLAIN + PLAIN,), "HTTP/1.1 200 OK"),
    ("HTTP/1.0", (PLAIN.replace("HTTP/1.1", "HTTP/1.0"),), "HTTP/1.0 200 OK"),
    ("a query", (PLAIN.replace(".ipxe ", ".ipxe?a=1 "),), "HTTP/1.1 200 OK"),
    ("a body", (PLAIN.replace("Host: x", "Host: x\r\nContent-Length: 2") + "ab",), "HTTP/1.1 200 OK"),
    ("HEAD", (PLAIN.replace("GET", "HEAD"),), "HTTP/1.1 200 OK"),
    ("POST", (PLAIN.replace("GET", "POST"),), "HTTP/1.1 405 Method Not Allowed"),
    ("no such path", (PLAIN.replace("/boot/", "/boat/"),), "HTTP/1.1 404 Not Found"),
    ("rubbish", ("\x16\x03\x01\0\r\n\r\n",), "HTTP/1.0 400 Bad Request"),
    ("a smuggled header", (PLAIN.replace("Host: x", "Host: x\r\nbad header\r\n"),), "HTTP/1.0 400 Bad Request"),
    ("a header of 9,000 bytes", (PLAIN.replace("Host: x", "Host: x\r\nA: " + "a" * 9000),), "HTTP/1.0 400 Bad Request"),
]


@pytest.mark.parametrize(("what", "pieces", "answer"), SAME, ids=[row[0] for row in SAME])
async def test_anything_unusual_is_answered_as_ever(rig, what: str, pieces: tuple[str, ...], answer: str) -> None:
    assert status(await talk(rig, *pieces, pause_s=0.05)) == answer


async def test_connections_that_say_nothing_harm_nobody(rig) -> None:
    host, port = rig.http.removeprefix("http://").split(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
    assert status(await talk(rig, PLAIN)) == "HTTP/1.1 200 OK"
    for _, writer in silent:
        writer.close()


async def test_who_asks_and_takes_no_answer_is_cut_off() -> None:
    ours, theirs = socket.socketpair()
    front = Front(asyncio.Protocol, lambda path, transport: "#!ipxe\n" + "x" * 8000, set())
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: front, ours)
    for asked in range(200):
        theirs.send(PLAIN.encode())
        while front.served == asked and not transport.is_closing():  # noqa: ASYNC110 - a look at each turn of the loop
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() < 2 * UNREAD
    assert transport.is_closing()
    theirs.close()
