"""Clients written by others against the boot plane, in two network namespaces of the run."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def test_dhclient_and_udhcpc_get_one_address_for_one_machine(wire: Any, plane: Any, tmp_path: Path) -> None:
    first = wire.dhclient(tmp_path)
    assert first.startswith("10.77.")
    assert wire.udhcpc() == first


def test_leases_survive_kill_9(wire: Any, plane: Any, tmp_path: Path) -> None:
    wire.set_mac("02:00:00:00:00:98")
    first = wire.udhcpc()
    plane.stop(signal.SIGKILL)
    plane.start()
    wire.set_mac("02:00:00:00:00:99")
    assert wire.udhcpc() != first
    wire.set_mac("02:00:00:00:00:98")
    assert wire.udhcpc() == first


def test_the_interface_goes_down_and_comes_back(wire: Any, plane: Any, tmp_path: Path) -> None:
    first = wire.udhcpc()
    _run("ip", "-n", wire.server, "link", "set", "eth0", "down")
    assert wire.run("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "1", "-T", "1").returncode != 0
    _run("ip", "-n", wire.server, "link", "set", "eth0", "up")
    assert wire.udhcpc() == first


def test_the_interface_is_taken_away_and_made_anew(wire: Any, plane: Any, files: Path, tmp_path: Path) -> None:
    first = wire.udhcpc()
    mac = wire.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    _run("ip", "-n", wire.server, "link", "delete", "eth0")
    wire.plug()
    wire.set_mac(mac)
    deadline = time.monotonic() + 120
    ask = ("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "1", "-T", "1")
    while first not in (out := wire.run(*ask).stderr):
        assert time.monotonic() < deadline, out
    wire.give_client_address()
    got = tmp_path / "got"
    while not got.exists() or not got.stat().st_size:
        assert time.monotonic() < deadline
        wire.run("curl", "-sf", "-m", "3", "-o", str(got), "tftp://10.77.0.1/ipxe.efi")
    assert _digest(got) == _digest(files / "ipxe.efi")


def test_tftp_hpa_and_curl_fetch_whole_files(wire: Any, plane: Any, files: Path, tmp_path: Path) -> None:
    wire.give_client_address()
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


def test_http_ranges(wire: Any, plane: Any, files: Path) -> None:
    wire.give_client_address()
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


def test_no_lease_is_given_that_cannot_be_written(wire: Any, make_plane: Any, tmp_path: Path) -> None:
    full = make_plane("--verbose", before=("prlimit", "--fsize=10"), log=subprocess.PIPE)  # a disk that takes ten bytes
    assert wire.udhcpc(2) == ""
    full.process.terminate()
    _, said = full.process.communicate(timeout=60)
    assert b"no lease is given until it can be written" in said
    assert (tmp_path / "leases0").stat().st_size == 0
