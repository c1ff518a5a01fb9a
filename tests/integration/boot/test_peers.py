"""Servers and clients of other people on the same wire: who wins, who gives way, and is everybody served?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

RIVAL = (
    "dnsmasq", "-k", "-p0", "-C", "/dev/null", "--user=root", "--interface=br0", "--bind-interfaces", "--pid-file=",
    "--dhcp-range=10.77.1.1,10.77.1.99,255.255.0.0,1h", "--no-ping", "--log-facility=/dev/null",
)  # fmt: skip
PYTHON = (sys.executable, "-m", "baremetal")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def rival(wire: Any, tmp_path: Path, *more: str) -> Iterator[None]:
    """dnsmasq on the same switch, as an access point brought from home would be."""
    wire.put_a_machine_between("10.77.0.9")
    with wire.running(*RIVAL, f"--dhcp-leasefile={tmp_path}/rival.leases", *more, where=wire.middle):
        until(lambda: wire.listens(wire.middle, 67))
        yield


def until(test: Callable[[], object]) -> None:
    """Wait for it, two minutes at most."""
    deadline = time.monotonic() + 120
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def events_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]


def test_strangers_get_no_answer_beside_dnsmasq(wire: Any, make_plane: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with rival(wire, tmp_path), log.open("w") as err:
        make_plane("--probe", "--verbose", log=err)
        until(lambda: rivals_told(log))
        for n in range(3):
            wire.set_mac(f"02:00:00:00:01:{n:02x}")
            assert wire.udhcpc().startswith("10.77.1.")  # the other's, never one of ours
    assert rivals_told(log)[0].startswith("10.77.0.9 (")


def rivals_told(log: Path) -> list[str]:
    return [e["body"]["detail"] for e in events_of(log) if e["body"].get("service") == "dhcp:fixture:rival"]


def test_diagnose_finds_both_servers_and_what_they_offer(wire: Any, make_plane: Any, tmp_path: Path) -> None:
    with rival(wire, tmp_path, "--dhcp-boot=theirs.efi"):
        make_plane()
        wire.give_client_address()
        found = json.loads(wire.run(*PYTHON, "diagnose", "--interface", "eth0", "--probe", "--json").stdout)
        # Ours has heard the rival's offer by now, and leaves unknown machines to it.
        again = wire.run(*PYTHON, "diagnose", "--interface", "eth0", "--probe").stdout
    assert "DHCP servers on eth0: 10.77.0.9\n" in again
    assert [s["server"] for s in found["dhcp_servers"]] == ["10.77.0.1", "10.77.0.9"], found
    ours, theirs = found["dhcp_servers"]
    assert (ours["boot_file"], ours["boot_file_reached"]["ok"]) == ("ipxe.efi", True)
    assert (theirs["boot_file"], theirs["boot_file_reached"]["ok"]) == ("theirs.efi", False)  # it serves no TFTP


def test_a_machine_that_takes_the_others_offer_is_told_of(wire: Any, make_plane: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with rival(wire, tmp_path, "--dhcp-authoritative"), log.open("w") as err:
        make_plane("--verbose", log=err)
        addresses = set()
        for n in range(6):
            wire.set_mac(f"02:00:00:00:02:{n:02x}")
            addresses.add(wire.udhcpc())
        theirs = [a for a in addresses if a.startswith("10.77.1.")]
        told = whys(log)
        for _ in range(600):  # on a busy machine a client has its address before our server came to its request
            if told or not theirs:
                break
            time.sleep(0.1)
            told = whys(log)
    assert "" not in addresses  # two servers fight, and everybody gets an address
    # Not the other way round: who asked the other and heard no answer in time may have taken ours in the end.
    assert told or not theirs
    assert all("10.77.0.9" in why for why in told)


def whys(log: Path) -> list[str]:
    """What was said of machines that another server got: it was faster, or we had heard it and were silent."""
    decisions = ("other-server", "ignore")
    return [e["body"]["because"] for e in events_of(log) if e["body"].get("decision") in decisions]


def test_diagnose_says_when_a_boot_file_cannot_be_had(wire: Any, plane: Any, files: Path) -> None:
    wire.give_client_address()
    (files / "ipxe.efi").unlink()
    told = wire.run(*PYTHON, "diagnose", "--interface", "eth0", "--probe").stdout
    assert "10.77.0.1 (" in told
    assert "FAILED  TFTP 10.77.0.1: ipxe.efi: no file ipxe.efi" in told
    reached = wire.run(*PYTHON, "diagnose", "--reach", "10.77.0.1")
    assert reached.returncode == 1
    assert "HTTP 10.77.0.1:8080" in reached.stdout
    gone = wire.run(*PYTHON, "diagnose", "--reach", "10.77.0.77", timeout=60).stdout
    assert "TFTP 10.77.0.77: no answer to 3 requests" in gone or "TFTP 10.77.0.77: No route to host" in gone


def test_diagnose_tells_a_live_boot(wire: Any, plane: Any, tmp_path: Path) -> None:
    kept = tmp_path / "kept.pcap"
    listen = ("diagnose", "--interface", "eth0", "--seconds", "300", "--save", str(kept))
    # A test run in the background may have been told to ignore Ctrl-C.
    with wire.running("env", "--default-signal=INT", *PYTHON, *listen) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening on eth0")
        address = wire.udhcpc()
        process.send_signal(signal.SIGINT)
        process.wait(120)
    told = wire.run(*PYTHON, "diagnose", "--pcap", str(kept)).stdout
    assert f"answers ACK {address}" in told
    assert "operating system" in told


def test_proxy_mode_lets_dnsmasq_give_the_addresses(wire: Any, make_plane: Any, tmp_path: Path) -> None:
    with rival(wire, tmp_path):
        make_plane("--proxy")
        assert wire.udhcpc().startswith("10.77.1.")
        probe = wire.run(*PYTHON, "diagnose", "--interface", "eth0", "--probe", "--json")
    ours, theirs = json.loads(probe.stdout)["dhcp_servers"]
    assert (ours["address"], ours["boot_file"]) == ("0.0.0.0", "ipxe.efi")
    assert (theirs["address"][:8], theirs["boot_file"]) == ("10.77.1.", "")


def test_perfdhcp_is_answered_every_time(wire: Any, plane: Any) -> None:
    """Kea's own load generator, as a relay: 300 new machines a second for three seconds, none unanswered."""
    wire.give_client_address()
    words = ("-4", "-l", "eth0", "-r", "300", "-p", "3", "-R", "900", "-W", "5000000", "-d", "20")
    said = wire.run("perfdhcp", *words, "10.77.0.1", timeout=60).stdout
    drops = [line for line in said.splitlines() if line.startswith("drops:")]
    assert drops == ["drops: 0", "drops: 0"], said


@pytest.mark.parametrize("options", [(), ("--option", "blksize 1428"), ("--option", "windowsize 8")])
def test_atftp_fetches_whole_files(
    wire: Any, plane: Any, files: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    wire.give_client_address()
    got = tmp_path / "got"
    done = wire.run("atftp", *options, "-g", "-r", "ipxe.efi", "-l", str(got), "10.77.0.1")
    assert got.exists(), done.stderr
    assert digest(got) == digest(files / "ipxe.efi")


def test_tftpys_client_fetches_whole_files(wire: Any, plane: Any, files: Path, tmp_path: Path) -> None:
    wire.give_client_address()
    got = tmp_path / "got"
    program = (
        f"import tftpy; tftpy.TftpClient('10.77.0.1', 69, options={{'blksize': 1428}}).download('ipxe.efi', '{got}')"
    )
    done = wire.run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert digest(got) == digest(files / "ipxe.efi")
