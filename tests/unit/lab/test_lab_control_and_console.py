"""The control socket and the console hub, over real unix sockets in a scratch directory."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from baremetal.errors import BaremetalError, NotFound, Refused
from baremetal.lab import control, namespace, reaper
from baremetal.lab.console import Console, near
from baremetal.lab.control import Control


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Deeper than a unix socket's name may be long."""
    path = tmp_path / ("d" * 60) / ("e" * 60)
    path.mkdir(parents=True)
    return path


async def status(_: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": []}


async def refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise Refused("not now", detail="busy", fix="later")


async def test_questions_and_refusals(deep):
    async with Control(deep, {"status": status, "refuse": refuse}):
        answer = await asyncio.to_thread(control.ask, deep, {"do": "status"})
        assert answer == {"ok": True, "nodes": []}
        with pytest.raises(BaremetalError, match="not now") as caught:
            await asyncio.to_thread(control.ask, deep, {"do": "refuse"})
        assert (caught.value.detail, caught.value.fix) == ("busy", "later")
        with pytest.raises(BaremetalError, match="not understood"):
            await asyncio.to_thread(control.ask, deep, {"do": "dance"})
        assert await asyncio.to_thread(control.pid, deep) == os.getpid()
    with pytest.raises(NotFound, match="no lab runs"):
        control.ask(deep, {"do": "status"})


async def test_garbage_on_the_control_socket(deep):
    async with Control(deep, {"status": status}):
        with near(deep / control.SOCKET) as short:
            reader, writer = await asyncio.open_unix_connection(short)
        writer.write(b"\xff\x00 no json\n[1]\n")
        assert b"not understood" in await reader.readline()
        assert b"not understood" in await reader.readline()
        writer.close()


async def test_console_history_broadcast_and_typing(deep):
    console = Console(deep / "console.sock")
    await console.start()
    ours, machine = socket.socketpair()
    machine.setblocking(False)
    carrying = asyncio.create_task(console.attach(ours))
    loop, heard, something = asyncio.get_running_loop(), [], asyncio.Event()

    def hear(data: bytes) -> None:
        heard.append(data)
        something.set()

    stop = console.listen(hear)
    await loop.sock_sendall(machine, b"booting\r\n")
    await something.wait()
    with near(console.path) as short:
        reader, writer = await asyncio.open_unix_connection(short)
    assert await reader.readexactly(9) == b"booting\r\n"
    writer.write(b"root\r")
    assert await loop.sock_recv(machine, 100) == b"root\r"
    stop()
    await loop.sock_sendall(machine, b"login")
    assert await reader.readexactly(5) == b"login"
    assert heard == [b"booting\r\n"]
    machine.close()
    await carrying
    assert console.write(b"x") is False, "the machine is off"
    writer.close()
    await console.close()
    assert not console.path.exists()


def test_a_state_directory_is_for_one_lab_and_is_cleared(tmp_path):
    for leftover in ("lab.sock", "instackenv.json.part", "nodes/n1/console.sock", "nodes/n1/disk0.part"):
        path = tmp_path / leftover
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    kept = tmp_path / "nodes/n1/disk0.qcow2"
    kept.write_bytes(b"disk")
    with namespace.claimed(tmp_path):
        assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["disk0.qcow2", "lab.lock"]
        with pytest.raises(Refused, match="already runs"), namespace.claimed(tmp_path):
            pass
    with namespace.claimed(tmp_path):
        pass


def test_zombies_are_seen_and_buried():
    child = os.fork()
    if child == 0:
        os._exit(0)
    while child not in reaper.zombies():
        pass
    reaper.bury(child)
    assert child not in reaper.zombies()
    reaper.bury(child)  # once more is no error
