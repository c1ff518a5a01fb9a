"""Two network namespaces and one cable; the boot plane on one end, clients written by others on the other.

Everything is started with PDEATHSIG: when a run is cut off, the kernel kills what it left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

ROOT = Path(__file__).parents[3]
MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")


class Wire:
    """Two namespaces and one cable: the server has 10.77.0.1/16, the client nothing yet."""

    def __init__(self, tag: str) -> None:
        self.server, self.client, self.middle = f"{tag}-s", f"{tag}-c", f"{tag}-m"

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

    def put_a_machine_between(self, address: str) -> None:
        """A switch in the cable, and on it a third machine with this address on br0."""
        _run("ip", "netns", "add", self.middle)
        _run("ip", "-n", self.server, "link", "set", "eth0", "down")
        _run("ip", "-n", self.server, "link", "delete", "eth0")
        for ns, port in ((self.server, "s0"), (self.client, "c0")):
            _run("ip", "-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self.middle)
            _run("ip", "-n", ns, "link", "set", "eth0", "up")
        _run("ip", "-n", self.middle, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        for port in ("s0", "c0"):
            _run("ip", "-n", self.middle, "link", "set", port, "master", "br0", "up")
        _run("ip", "-n", self.middle, "link", "set", "br0", "up")
        _run("ip", "-n", self.middle, "address", "add", f"{address}/16", "dev", "br0")
        _run("ip", "-n", self.server, "address", "add", "10.77.0.1/16", "dev", "eth0")

    def down(self) -> None:
        for ns in (self.server, self.client, self.middle):
            subprocess.run(["ip", "netns", "delete", ns], check=False, capture_output=True)

    def run(self, *args: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        assert shutil.which(args[0]), f"{args[0]} is not installed: hack/setup test"
        argv = [*MORTAL, "ip", "netns", "exec", self.client, *args]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)

    @contextlib.contextmanager
    def running(self, *args: str, where: str = "") -> Iterator[subprocess.Popen[str]]:
        """A process on the clients' side (or in namespace `where`) that is killed in the end; it speaks on stderr."""
        assert shutil.which(args[0]), f"{args[0]} is not installed: hack/setup test"
        argv = [*MORTAL, "ip", "netns", "exec", where or self.client, *args]
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def set_mac(self, mac: str) -> None:
        for change in (("down",), ("address", mac), ("up",)):
            _run("ip", "-n", self.client, "link", "set", "eth0", *change)

    def give_client_address(self, address: str = "10.77.255.2") -> None:
        _run("ip", "-n", self.client, "address", "add", f"{address}/16", "dev", "eth0")

    def dhclient(self, tmp_path: Path) -> str:
        """The address that isc-dhcp-client gets. In the foreground: it would outlive us otherwise."""
        files = ("-cf", "/dev/null", "-lf", str(tmp_path / "dhclient.leases"), "-pf", str(tmp_path / "dhclient.pid"))
        said = []
        with self.running("dhclient", "-4", "-1", "-d", "-sf", "/bin/true", *files, "eth0") as process:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if "bound to " in line:
                    return line.split("bound to ")[1].split()[0]
        raise AssertionError("".join(said))

    def listens(self, where: str, port: int) -> bool:
        """Does a process in that namespace hold this UDP or TCP port?"""
        shown = subprocess.run(
            ["ip", "netns", "exec", where, "ss", "-lntuH"], capture_output=True, text=True, check=True
        )
        return any(line.split()[4].endswith(f":{port}") for line in shown.stdout.splitlines())

    def udhcpc(self, tries: int = 20) -> str:
        """The address that busybox's client gets; "" when none in so many seconds. A machine answered asks once."""
        said = self.run("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", str(tries), "-T", "1").stderr
        return said.split("lease of ")[1].split()[0] if "lease of " in said else ""


class Plane:
    """hack/boot-fixture as a process that can be killed."""

    def __init__(self, wire: Wire, files: Path, journal: Path, *before: str) -> None:
        self._args = [*MORTAL, "ip", "netns", "exec", wire.server, *before]
        self._args += [str(ROOT / "hack" / "boot-fixture"), str(files), "eth0"]
        self._args += ["--journal", str(journal)]
        self._wire = wire

    def more(self, *args: str) -> None:
        self._args += args

    def start(self, log: TextIO | int | None = None) -> None:
        self.process = subprocess.Popen(self._args, stderr=log)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._wire.listens(self._wire.server, 8080):
                return
            time.sleep(0.1)
        raise AssertionError("the boot plane did not come up")

    def stop(self, sig: int = signal.SIGTERM) -> None:
        self.process.send_signal(sig)
        self.process.wait(60)


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
def make_plane(wire: Wire, files: Path, tmp_path: Path) -> Iterator[Callable[..., Plane]]:
    """make_plane("--probe", before=("prlimit", …), log=file): a boot plane that serves, with a journal of its own."""
    made: list[Plane] = []

    def make(*more: str, before: tuple[str, ...] = (), log: TextIO | int | None = None) -> Plane:
        one = Plane(wire, files, tmp_path / f"leases{len(made)}", *before)
        one.more(*more)
        made.append(one)
        one.start(log)
        return one

    yield make
    for one in made:
        with contextlib.suppress(ProcessLookupError):
            one.stop()


@pytest.fixture
def plane(make_plane: Callable[..., Plane]) -> Plane:
    return make_plane()


def _run(*args: str) -> None:
    subprocess.run(args, check=True)
