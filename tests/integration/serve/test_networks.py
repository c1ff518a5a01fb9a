"""Networks added, changed and taken away while the server runs, as an operator types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from baremetal.errors import EXIT_NOT_FOUND, EXIT_REFUSED

pytestmark = pytest.mark.integration
SECOND = ("--interface", "prov1", "--cidr", "192.168.92.0/24", "--server", "192.168.92.1", "--mode", "anybody")


@pytest.fixture
def two(site):
    """A server, and a second link that it does not serve yet."""
    for words in (
        "link add prov1 type veth peer name node1",
        "addr add 192.168.92.1/24 dev prov1",
        "link set prov1 up",
        "link set node1 up",
    ):
        site.run("ip", "-n", site.netns, *words.split(), inside=False)
    site.serve()
    return site


def asks(site, interface: str = "node1") -> str:
    """What udhcpc on this interface is given; "" when nothing."""
    ask = ("udhcpc", "-i", interface, "-n", "-q", "-f", "-s", "/bin/true", "-t", "2", "-T", "1")
    said = site.run(*ask, check=False).stderr
    return said.split("lease of ")[1].split()[0] if "lease of " in said else ""


def until_it_gets(site, beginning: str) -> str:
    found: list[str] = []

    def answered() -> bool:
        found.append(asks(site))
        return bool(found[-1].startswith(beginning))

    site.until(answered)
    return found[-1]


def leases(site) -> list[dict]:
    return json.loads(site.cli("network", "leases", "--json").stdout)["leases"]


def test_a_network_is_added_while_the_server_runs(two) -> None:
    assert asks(two) == ""
    said = two.cli("network", "add", "second", *SECOND, "-o", "ntp-server=192.168.92.1").stdout
    assert said == "second: 192.168.92.0/24 on prov1, 192.168.92.128-192.168.92.254, anybody machines\n"
    address = until_it_gets(two, "192.168.92.")

    two.until(lambda: [x for x in leases(two) if x["address"] == address])
    assert "1 of 127 addresses" in two.cli("network", "show", "second").stdout

    script = two.curl("http://192.168.92.1:8080/boot/52-54-00-00-00-01.ipxe").stdout
    assert script.startswith("#!ipxe")
    agents = two.run(
        "curl",
        "-sS",
        "--cacert",
        f"{two.root}/state/tls/ca.pem",
        "https://192.168.92.1:8443/agent/v1/order",
        check=False,
    )
    assert "error" in agents.stdout, agents.stderr  # the certificate names the new address: an answer, not a refusal

    os.kill(two.pid("baremetal.serve.bootproc"), signal.SIGKILL)
    assert until_it_gets(two, "192.168.92.") == address
    two.stop()
    two.serve()
    assert until_it_gets(two, "192.168.92.") == address

    two.cli("network", "remove", "second")
    two.until(lambda: asks(two) == "")
    assert two.curl("http://192.168.92.1:8080/").returncode != 0
    assert two.cli("network", "show", "second", check=False).returncode == EXIT_NOT_FOUND


def test_an_address_is_taken_back(two) -> None:
    two.cli("network", "add", "second", *SECOND, "--range", "192.168.92.50-192.168.92.50")
    until_it_gets(two, "192.168.92.50")
    other = ("ip", "-n", two.netns, "link", "set", "node1", "address", "02:00:00:00:00:99")
    two.run(*other, inside=False)
    assert asks(two) == ""  # the only address is taken
    two.until(lambda: bool(leases(two)))
    assert two.cli("network", "release", "192.168.92.50").stdout == "192.168.92.50 is free\n"
    assert until_it_gets(two, "192.168.92.50")
    assert two.cli("network", "release", "192.168.92.77", check=False).returncode == EXIT_NOT_FOUND


def test_a_subnet_behind_relays_and_a_reservation(two) -> None:
    two.cli("network", "add", "second", *SECOND)
    mac = two.run("cat", "/sys/class/net/node1/address").stdout.strip()
    far = ("--interface", "prov1", "--cidr", "10.9.0.0/16", "--server", "192.168.92.1", "--relayed")
    two.cli("network", "add", "far", *far, "--router", "10.9.0.1", "--reserve", "52:54:00:00:00:07=10.9.0.7")
    listed = json.loads(two.cli("network", "list", "--json").stdout)["networks"]
    assert [(n["name"], n["relayed"], n["added"]) for n in listed] == [
        ("prov", False, False),
        ("second", False, True),
        ("far", True, True),
    ]
    assert listed[2]["reservations"] == {"52:54:00:00:00:07": "10.9.0.7"}
    assert until_it_gets(two, "192.168.92."), mac
    refused = two.cli("network", "remove", "second", check=False)
    assert "needed by a relayed one" in refused.stderr


MISTAKES = [
    (("--interface", "nowhere", "--cidr", "10.1.0.0/24", "--server", "10.1.0.1"), "no interface nowhere"),
    (("--interface", "prov1", "--cidr", "10.1.0.0/24", "--server", "10.1.0.1"), "address 10.1.0.1 is not on prov1"),
    (("--interface", "prov1", "--cidr", "10.1.0.0/24", "--server", "10.2.0.1"), "is no host address of 10.1.0.0/24"),
    (("--interface", "prov0", "--cidr", "10.1.0.0/24", "--server", "10.1.0.1"), "two networks on interface prov0"),
    ((*SECOND, "-o", "ntp-srver=1"), "no DHCP option is called 'ntp-srver'"),
    ((*SECOND, "-o", "ntp-server=soon"), "does not fit"),
    ((*SECOND, "--reserve", "r1=192.168.92.9"), "neither a MAC address nor"),
    ((*SECOND, "--mode", "all"), "is none of known, discover, anybody"),
]


def test_mistakes_are_named_and_nothing_is_changed(two) -> None:
    for words, says in MISTAKES:
        done = two.cli("network", "add", "second", *words, check=False)
        assert done.returncode != 0, words
        assert says in done.stderr, done.stderr
    assert two.cli("network", "remove", "prov", check=False).returncode == EXIT_REFUSED
    assert len(json.loads(two.cli("network", "list", "--json").stdout)["networks"]) == 1


def test_boot_watch_shows_who_asks_and_why_nothing_is_answered(site) -> None:
    site.serve()
    watch = site.command("timeout", "180", sys.executable, "-m", "baremetal", "boot", "watch")
    said = site.root / "watched"
    with said.open("w") as out, subprocess.Popen(watch, env=site.env, stdout=out) as watching:
        try:
            tried: list[str] = []
            firmware = ("-x", "0x5d:0007", "-V", "PXEClient:Arch:00007:UNDI:003000")
            ask = ("udhcpc", "-i", "node0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "2", "-T", "1", *firmware)

            def seen() -> bool:
                """Another machine each time: one that asks again and again is not told of each time."""
                tried.append(f"02:00:00:00:01:{len(tried):02x}")
                site.run("ip", "-n", site.netns, "link", "set", "node0", "address", tried[-1], inside=False)
                site.run(*ask, check=False)
                return any(mac in said.read_text() for mac in tried)

            site.until(seen)
            line = next(line for line in said.read_text().splitlines() if any(mac in line for mac in tried))
            assert "no node has its MAC or UUID, and network prov answers known machines only" in line
        finally:
            watching.kill()
