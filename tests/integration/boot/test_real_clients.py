"""Clients written by others against the boot plane, in two network namespaces of the run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


class Wire:
    """Two namespaces and one cable: the server has 10.77.0.1/16, the client nothing yet."""

    def __init__(self, tag: str) -> None:
        self.server, self.client = f"{tag}-s", f"{tag}-c"

    def up(self) -> None:
        for ns in (self.server, self.client):
            _run("ip", "netns", "add", ns)
            _run("ip", "-n", ns, "link", "set", "lo", "up")
        self.plug()

    def plug(self) -> None:
        """The cable: one interface in each namespace."""
        _run(
            "ip", "-n", self.server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.client
        )
        _run("ip", "-n", self.server, "address", "add", "10.77.0.1/16", "dev", "eth0")
        _run("ip", "-n", self.server, "-6", "address", "add", "fd77::1/64", "dev", "eth0", "nodad")
        for ns in (self.server, self.client):
            _run("ip", "-n", ns, "link", "set", "eth0", "up")

    def down(self) -> None:
        for ns in (self.server, self.client):
            subprocess.run(["ip", "netns", "delete", ns], check=False)

    def run(self, *args: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.client, *args], capture_output=True, text=True, timeout=timeout, check=False
        )


class Plane:
    """hack/boot-fixture as a process that can be killed."""

    def __init__(self, wire: Wire, files: Path, journal: Path, *before: str) -> None:
        self._args = ["ip", "netns", "exec", wire.server, *before]
        self._args += [str(ROOT / "hack" / "boot-fixture"), str(files), "eth0"]
        self._args += ["--journal", str(journal)]
        self._wire = wire

    def more(self, *args: str) -> None:
        self._args += args

    def start(self, log: TextIO | int | None = None) -> None:
        self.process = subprocess.Popen(self._args, stderr=log)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            out = subprocess.run(
                ["ip", "netns", "exec", self._wire.server, "ss", "-ltn"], capture_output=True, text=True, check=True
            )
            if ":8080" in out.stdout:
                return
            time.sleep(0.1)
        raise AssertionError("the boot plane did not come up")

    def stop(self, sig: int = signal.SIGTERM) -> None:
        self.process.send_signal(sig)
        self.process.wait(10)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(f"bm{os.getpid() % 100000}")
    made.down()
    made.up()
    yield made
    made.down()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    root.mkdir()
    (root / "ipxe.efi").write_bytes(os.urandom(300_000))
    return root


@pytest.fixture
def plane(wire: Wire, files: Path, tmp_path: Path) -> Iterator[Plane]:
    made = Plane(wire, files, tmp_path / "leases")
    made.start()
    yield made
    with contextlib.suppress(ProcessLookupError):
        made.stop()


def dhclient(wire: Wire, tmp_path: Path) -> str:
    """The address that isc-dhcp-client gets."""
    args = [
        "dhclient",
        "-4",
        "-1",
        "-v",
        "-sf",
        "/bin/true",
        "-cf",
        "/dev/null",
        "-lf",
        str(tmp_path / "dhclient.leases"),
    ]
    out = wire.run(*args, "-pf", str(tmp_path / "dhclient.pid"), "eth0")
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.kill(int((tmp_path / "dhclient.pid").read_text()), signal.SIGTERM)
    words = out.stderr.split("bound to ")
    assert len(words) == 2, out.stderr
    return words[1].split()[0]


def udhcpc(wire: Wire) -> str:
    out = wire.run("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "3", "-T", "1")
    assert "obtained" in out.stderr, out.stderr
    return out.stderr.split("lease of ")[1].split()[0]


def give_client_address(wire: Wire) -> None:
    _run("ip", "-n", wire.client, "address", "add", "10.77.255.2/16", "dev", "eth0")


def set_mac(wire: Wire, mac: str) -> None:
    for change in (("down",), ("address", mac), ("up",)):
        _run("ip", "-n", wire.client, "link", "set", "eth0", *change)


def test_dhclient_and_udhcpc_get_one_address_for_one_machine(wire: Wire, plane: Plane, tmp_path: Path) -> None:
    first = dhclient(wire, tmp_path)
    assert first.startswith("10.77.")
    assert udhcpc(wire) == first


def test_leases_survive_kill_9(wire: Wire, plane: Plane, tmp_path: Path) -> None:
    set_mac(wire, "02:00:00:00:00:98")
    first = udhcpc(wire)
    plane.stop(signal.SIGKILL)
    plane.start()
    set_mac(wire, "02:00:00:00:00:99")
    assert udhcpc(wire) != first
    set_mac(wire, "02:00:00:00:00:98")
    assert udhcpc(wire) == first


def test_the_interface_goes_down_and_comes_back(wire: Wire, plane: Plane, tmp_path: Path) -> None:
    first = udhcpc(wire)
    _run("ip", "-n", wire.server, "link", "set", "eth0", "down")
    assert wire.run("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "1", "-T", "1").returncode != 0
    _run("ip", "-n", wire.server, "link", "set", "eth0", "up")
    assert udhcpc(wire) == first


def test_the_interface_is_taken_away_and_made_anew(wire: Wire, plane: Plane, files: Path, tmp_path: Path) -> None:
    first = udhcpc(wire)
    mac = wire.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    _run("ip", "-n", wire.server, "link", "delete", "eth0")
    wire.plug()
    set_mac(wire, mac)
    deadline = time.monotonic() + 20
    ask = ("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "1", "-T", "1")
    while first not in (out := wire.run(*ask).stderr):
        assert time.monotonic() < deadline, out
    give_client_address(wire)
    got = tmp_path / "got"
    while not got.exists() or not got.stat().st_size:
        assert time.monotonic() < deadline
        wire.run("curl", "-sf", "-m", "3", "-o", str(got), "tftp://10.77.0.1/ipxe.efi")
    assert _digest(got) == _digest(files / "ipxe.efi")


def test_tftp_hpa_and_curl_fetch_whole_files(wire: Wire, plane: Plane, files: Path, tmp_path: Path) -> None:
    give_client_address(wire)
    wanted = _digest(files / "ipxe.efi")
    got = tmp_path / "got"
    fetches = (
        ("tftp", "-m", "octet", "10.77.0.1", "-c", "get", "ipxe.efi", str(got)),
        ("curl", "-sf", "-o", str(got), "tftp://10.77.0.1/ipxe.efi"),
        ("curl", "-sf", "--tftp-blksize", "1468", "-o", str(got), "tftp://10.77.0.1/ipxe.efi"),
        ("curl", "-sf", "--tftp-no-options", "-o", str(got), "tftp://10.77.0.1/ipxe.efi"),
        ("curl", "-sf", "-o", str(got), "http://10.77.0.1:8080/ipxe.efi"),
    )
    for fetch in fetches:
        assert shutil.which(fetch[0]), f"{fetch[0]} is not installed: hack/setup test"
        got.unlink(missing_ok=True)
        done = wire.run(*fetch)
        assert got.exists(), (fetch, done.stderr)
        assert _digest(got) == wanted, fetch


def test_http_ranges(wire: Wire, plane: Plane, files: Path) -> None:
    give_client_address(wire)
    out = wire.run(
        "curl",
        "-s",
        "-i",
        "-r",
        "0-9",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{size_download}",
        "http://10.77.0.1:8080/ipxe.efi",
    )
    assert out.stdout == "206 10"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(*args: str) -> None:
    subprocess.run(args, check=True)


def test_strangers_get_no_answer_beside_another_server(wire: Wire, plane: Plane, files: Path, tmp_path: Path) -> None:
    plane.stop()
    _run("ip", "-n", wire.client, "address", "add", "10.77.0.9/16", "dev", "eth0")
    rival = subprocess.Popen(
        ["ip", "netns", "exec", wire.client, str(ROOT / ".venv/bin/python"), "-c", RIVAL],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert rival.stdout is not None
        rival.stdout.readline()
        log = tmp_path / "log"
        with log.open("w") as err:
            again = Plane(wire, files, tmp_path / "leases2")
            again.more("--probe", "--verbose")
            again.start(err)
            time.sleep(3)
            out = wire.run("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "2", "-T", "1")
            again.stop()
        assert "obtained" not in out.stderr
        events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        rivals = [e["body"]["detail"] for e in events if e["body"].get("service") == "dhcp:fixture:rival"]
        assert rivals
        assert rivals[0].startswith("10.77.0.9 (")
    finally:
        rival.kill()
        rival.wait()


def test_no_lease_is_given_that_cannot_be_written(wire: Wire, plane: Plane, files: Path, tmp_path: Path) -> None:
    plane.stop()
    full = Plane(wire, files, tmp_path / "leases2", "prlimit", "--fsize=10")  # a disk that takes ten bytes more
    full.more("--verbose")
    full.start(subprocess.PIPE)
    out = wire.run("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "2", "-T", "1")
    full.process.terminate()
    _, said = full.process.communicate(timeout=10)
    assert "obtained" not in out.stderr
    assert b"no lease is given until it can be written" in said
    assert (tmp_path / "leases2").stat().st_size == 0


# Offers 10.77.1.1 to anybody that asks: what an access point brought from home does.
RIVAL = """
import socket
from baremetal.wire.dhcp4 import packet as p
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, 25, b"eth0\\0")
s.bind(("", 67))
print("up", flush=True)
while True:
    q = p.parse(s.recv(1600))
    if q.type == p.DISCOVER and q.mac.startswith("02:"):
        o = {53: b"\\2", 54: p.packed("10.77.0.9"), 51: b"\\0\\0\\1\\0"}
        offer = p.Packet(2, 1, q.xid, q.mac, broadcast=True, yiaddr="10.77.1.1", options=o)
        s.sendto(p.build(offer), ("255.255.255.255", 68))
"""
