"""What goes wrong on a wire and in a server room: the service goes on, and says what it saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration
MANY = 100


def events_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def send(wire: Any, program: str) -> None:
    """Python on the clients' side, with `s`: a socket that sends to everybody's port 67."""
    head = (
        "import os, socket; from baremetal.wire.dhcp4 import packet as p\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
        "s.setsockopt(socket.SOL_SOCKET, 25, b'eth0\\0'); to = ('255.255.255.255', 67)\n"
    )
    done = wire.run(sys.executable, "-c", head + program)
    assert done.returncode == 0, done.stderr


def test_a_flood_of_invented_machines_keeps_nobody_out(wire: Any, make_plane: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as err:
        make_plane("--verbose", log=err)
        wire.give_client_address()
        send(
            wire,
            "for n in range(6000):\n"
            "  mac = '06:' + os.urandom(5).hex(':')\n"
            "  s.sendto(p.build(p.Packet(1, 1, n, mac, broadcast=True, options={53: b'\\1', 93: b'\\0\\7'})), to)\n",
        )
        assert wire.udhcpc()
        time.sleep(0.3)
        wire.set_mac("02:00:00:00:00:77")
        assert wire.udhcpc()
    told = events_of(log)
    assert len(told) < 6000  # what is told is bounded
    assert any(e["body"].get("service") == "dhcp:flood" for e in told)


def test_rubbish_and_lies_are_told_once_and_hurt_nobody(wire: Any, make_plane: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as err:
        make_plane("--verbose", log=err)
        wire.give_client_address()
        send(
            wire,
            "for n in range(2000): s.sendto(os.urandom(n % 600), to)\n"
            "good = p.build(p.Packet(1, 1, 7, '06:00:00:00:00:01', options={53: b'\\1'}))\n"
            "for cut in range(len(good)): s.sendto(good[:cut], to)\n"
            "for at in range(236, 260):\n"
            "  s.sendto(good[:at] + b'\\xff' * 40 + good[at:], to)\n",
        )
        assert wire.udhcpc()
    refused = [e["body"]["why"] for e in events_of(log) if e["kind"] == "refused"]
    assert refused
    assert len(refused) < 20


def test_an_empty_pool_is_said(wire: Any, make_plane: Any, tmp_path: Path) -> None:
    """Two addresses and three machines."""
    program = """
import boot_fixture
from dataclasses import replace
made = boot_fixture.network
boot_fixture.network = lambda *a: replace(made(*a), range_first="10.77.16.1", range_last="10.77.16.2")
boot_fixture.main()
"""
    log = tmp_path / "log"
    hack = Path(__file__).parents[3] / "hack"
    files = tmp_path / "none"
    files.mkdir()
    with log.open("w") as err:
        argv = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            "ip",
            "netns",
            "exec",
            wire.server,
            sys.executable,
            "-c",
            program,
        ]
        env = {**os.environ, "PYTHONPATH": str(hack)}
        server = subprocess.Popen([*argv, str(files), "eth0", "--verbose"], stderr=err, env=env)
        try:
            got = []
            for n in range(3):
                wire.set_mac(f"02:00:00:00:03:{n:02x}")
                got.append(wire.udhcpc(60 if n < 2 else 2))  # the first one waits for our server to come up
            assert sorted(got) == ["", "10.77.16.1", "10.77.16.2"]
        finally:
            server.kill()
            server.wait()
    assert any("no address is free on fixture" in e["body"].get("because", "") for e in events_of(log))


def test_a_hundred_interfaces(wire: Any, tmp_path: Path) -> None:
    """One process, a hundred provisioning networks; machines on the first, the last and one between get addresses."""
    for n in range(MANY):
        words = f"link add p{n} type veth peer name q{n}"
        subprocess.run(["ip", "-n", wire.server, *words.split()], check=True)
        subprocess.run(["ip", "-n", wire.server, "address", "add", f"10.{n}.0.1/24", "dev", f"p{n}"], check=True)
        for end in ("p", "q"):
            subprocess.run(["ip", "-n", wire.server, "link", "set", f"{end}{n}", "up"], check=True)
    program = f"""
import asyncio, functools, sys, time
from baremetal.boot.decide import Urls, decide
from baremetal.model.network import Mode, Network
from baremetal.serve.dhcp import DhcpServer
from baremetal.serve.loaders import LoaderTree, read_loaders
from baremetal.serve.tftp import TftpServer
async def main():
    started = time.monotonic()
    tree = LoaderTree(read_loaders())
    urls = Urls(http="http://x", loaders=tree.table)
    for n in range({MANY}):
        addresses = [f"10.{{n}}.0.{{host}}" for host in (1, 100, 200)]
        net = Network(f"n{{n}}", f"p{{n}}", f"10.{{n}}.0.0/24", *addresses, mode=Mode.ANYBODY)
        DhcpServer(net, functools.partial(decide, urls=urls), lambda e: None, None, probe=False).start()
        TftpServer(net.server, 69, tree, lambda e: None, interface=net.interface).start()
    print(f"up after {{time.monotonic() - started:.1f}} s", file=sys.stderr, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with wire.running(sys.executable, "-c", program, where=wire.server) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("up after")
        for n in (0, MANY // 2, MANY - 1):
            ask = ["udhcpc", "-i", f"q{n}", "-n", "-q", "-f", "-s", "/bin/true", "-t", "20", "-T", "1"]
            said = subprocess.run(
                ["ip", "netns", "exec", wire.server, *ask], capture_output=True, text=True, timeout=120, check=False
            )
            assert f"lease of 10.{n}.0." in said.stderr, said.stderr
