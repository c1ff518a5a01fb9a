"""Two whole servers on one provisioning network: their DHCP, their pool, their held requests. Real clients ask.

Both run `baremetal serve` in a network namespace of their own; a bridge joins them, PostgreSQL and the machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_import import pg_cluster

from baremetal.store import boots, nodes, opened
from baremetal.store.boots import Boot

pytestmark = pytest.mark.integration

RESERVED = "02:00:00:00:00:07"
TOKEN = "7" * 64
CONFIG = """
state_dir = "{root}/{name}/state"
run_dir = "{root}/{name}/run"
cache_dir = "{root}/{name}/cache"
database = "{url}"
server_name = "{name}"
power_sync_s = 0
[[network]]
name = "prov"
interface = "eth0"
cidr = "10.78.0.0/24"
server = "{address}"
range = "10.78.0.128-10.78.0.254"
mode = "anybody"
reservations = {{ "{reserved}" = "10.78.0.7" }}
"""
# Everybody who offers this client an address within three seconds, as scapy reads it.
OFFERS = """
import json, sys
from scapy.all import AsyncSniffer, BOOTP, DHCP, Ether, IP, UDP, conf, sendp
mac = sys.argv[1]; raw = bytes.fromhex(mac.replace(":", "")); conf.checkIPaddr = False
import threading, time
listening = threading.Event()
offers = lambda p: p.haslayer(DHCP) and p[BOOTP].op == 2
sniffer = AsyncSniffer(iface="eth0", lfilter=offers, started_callback=listening.set)
sniffer.start(); listening.wait(60)
sendp(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
      / BOOTP(chaddr=raw + bytes(10), xid=0x1234, flags=0x8000) / DHCP(options=[("message-type", "discover"), "end"]),
      iface="eth0", verbose=False)
time.sleep(3); sniffer.stop()
found = []
for p in sniffer.results:
    options = {o[0]: str(o[1:]) for o in p[DHCP].options if isinstance(o, tuple)}
    found.append({"by": p[IP].src, "address": p[BOOTP].yiaddr, "options": options})
print(json.dumps(found))
"""


class Server:
    """One host."""

    def __init__(self, hall: Hall, name: str, address: str) -> None:
        self.hall, self.name, self.address = hall, name, address
        self.netns, self.root = f"{hall.prefix}-{name}", hall.root
        self.process: subprocess.Popen[bytes] | None = None
        (hall.root / name).mkdir()
        self.config = hall.root / f"{name}.toml"
        url = hall.database.url("site", hall.at)
        self.config.write_text(CONFIG.format(root=hall.root, name=name, url=url, address=address, reserved=RESERVED))
        hall.wire(self.netns, address)

    def cli(self, *words: str) -> str:
        return self.hall.inside(self.netns, sys.executable, "-m", "baremetal", *words, BAREMETAL_CONFIG=self.config)

    def start(self) -> None:
        env = {**os.environ, "BAREMETAL_CONFIG": str(self.config)}
        command = ["ip", "netns", "exec", self.netns, sys.executable, "-m", "baremetal", "serve"]
        with (self.root / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.root / f"{self.name}.log").read_text()
        with contextlib.suppress(AssertionError, ValueError):
            return bool(json.loads(self.cli("status", "--json"))["planes"]["boot"]["connected"])
        return False

    def holds(self) -> list[str]:
        with contextlib.suppress(AssertionError, ValueError):
            listed = json.loads(self.cli("server", "list", "--json"))["servers"]
            return [s["name"] for s in listed if s["alive"] and "pool:prov" in s["holds"]]
        return []

    def kill(self) -> None:
        """The host is gone: everything at once, no word to anybody."""
        listed = subprocess.run(["ip", "netns", "pids", self.netns], capture_output=True, text=True, check=True)
        for pid in listed.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


class Hall:
    """Bridge and database in one namespace, servers a and b, a machine."""

    at = "10.78.0.250"

    def __init__(self, root: Path) -> None:
        self.root, self.prefix = root, f"bm{os.getpid() % 10000}{uuid.uuid4().hex[:3]}"
        self.hub, self.client = f"{self.prefix}-hub", f"{self.prefix}-m"
        ip("netns", "add", self.hub)
        ip("-n", self.hub, "link", "set", "lo", "up")
        ip("-n", self.hub, "link", "add", "br0", "type", "bridge")
        ip("-n", self.hub, "addr", "add", f"{self.at}/24", "dev", "br0")
        ip("-n", self.hub, "link", "set", "br0", "up")
        self.database = pg_cluster.Cluster(root / "pg", self.at, netns=self.hub).create().start()
        self.database.sql("CREATE DATABASE site")
        self.local = f"postgresql://bm@/site?host={self.database.directory}&port={self.database.port}"
        self.a, self.b = Server(self, "a", "10.78.0.1"), Server(self, "b", "10.78.0.2")
        self.wire(self.client, "10.78.0.99")
        self.a.cli("init")
        for shared in ("state/keys", "state/tls/ca.pem", "state/tls/ca.key"):
            source, target = root / "a" / shared, root / "b" / shared
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", str(source), str(target)], check=True)
        self.b.cli("init")

    def wire(self, netns: str, address: str) -> None:
        ip("netns", "add", netns)
        ip("-n", netns, "link", "set", "lo", "up")
        port = "v" + netns.rpartition("-")[2]
        ip("-n", self.hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", netns)
        ip("-n", self.hub, "link", "set", port, "master", "br0", "up")
        ip("-n", netns, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", netns, "link", "set", "eth0", "up")

    def inside(self, netns: str, *words: str, **env: Any) -> str:
        more = {key: str(value) for key, value in env.items()}
        done = subprocess.run(
            ["ip", "netns", "exec", netns, *words],
            env={**os.environ, **more}, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def offers(self, mac: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.inside(self.client, sys.executable, "-c", OFFERS, mac))
        return sorted(found, key=lambda offer: str(offer["by"]))

    def udhcpc(self, mac: str) -> str:
        """The address that busybox's client is given; "" when none."""
        ip("-n", self.client, "link", "set", "eth0", "down")
        ip("-n", self.client, "link", "set", "eth0", "address", mac, "up")
        words = ("udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "3", "-T", "1")
        done = subprocess.run(
            ["ip", "netns", "exec", self.client, *words], capture_output=True, text=True, timeout=60, check=False
        )
        return done.stderr.split("lease of ")[1].split()[0] if "lease of " in done.stderr else ""

    def dhclient(self, mac: str) -> str:
        """The address that ISC's client is bound to."""
        ip("-n", self.client, "link", "set", "eth0", "down")
        ip("-n", self.client, "link", "set", "eth0", "address", mac, "up")
        files = ("-cf", "/dev/null", "-lf", str(self.root / "leases"), "-pf", str(self.root / "pid"))
        command = ["ip", "netns", "exec", self.client, "dhclient", "-4", "-1", "-d", "-sf", "/bin/true", *files, "eth0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    if "bound to " in line:
                        return line.split("bound to ")[1].split()[0]
            finally:
                process.kill()
        return ""

    def close(self) -> None:
        for server in (self.a, self.b):
            server.kill()
        self.database.stop()
        for netns in (self.a.netns, self.b.netns, self.client, self.hub):
            subprocess.run(["ip", "netns", "del", netns], check=False, capture_output=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def until(test: Callable[[], Any], seconds: float, what: str | Path) -> Any:
    end = time.monotonic() + seconds
    while not (found := test()):
        said = what.read_text()[-3000:] if isinstance(what, Path) else what
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {said}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    root = Path(tempfile.mkdtemp(prefix="bm-wire-"))
    root.chmod(0o755)
    one = Hall(root)
    try:
        for server in (one.a, one.b):
            server.start()
            until(server.up, 120, f"{server.name} serves")
        until(lambda: one.a.holds() == ["a"], 60, "a gives out the addresses")
        yield one
    finally:
        one.close()
        shutil.rmtree(root, ignore_errors=True)


def test_both_answer_for_a_machine_with_an_address_and_say_the_same(hall: Hall) -> None:
    def both() -> list[dict[str, Any]]:
        found = hall.offers(RESERVED)
        return found if len(found) == 2 else []

    first, second = until(both, 120, "two offers")
    assert [first["by"], second["by"]] == ["10.78.0.1", "10.78.0.2"]
    assert first["address"] == second["address"] == "10.78.0.7"
    own = {"server_id"}  # what names the server itself
    assert {k: v for k, v in first["options"].items() if k not in own} == {
        k: v for k, v in second["options"].items() if k not in own
    }
    assert until(lambda: hall.udhcpc(RESERVED), 60, "an address") == "10.78.0.7"


def test_a_held_request_returns_on_any_server_and_the_agent_falls_to_the_other(hall: Hall) -> None:
    """Metadata is set through a; the real agent, held at b, gets it. b dies: the agent goes on at a."""
    hall.a.cli("node", "enroll", "n1", "--bmc", "manual:", "--mac", "02:00:00:00:00:11", "--no-manage")
    with opened(hall.local) as store:
        node = store.read(lambda c: nodes.get(c, "n1"))
        boot = Boot("b" * 32, node.id, boots.INSTANCE, "up", token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())

        def deployed(conn: Any) -> None:
            boots.insert(conn, boot)
            nodes.see(conn, node.id, state="active", wanted=None, work={}, wake_at=None)

        store.write_sync(deployed)
    state, output, made = hall.root / "agent", hall.root / "out", hall.root / "templates"
    for directory in (state, output, made / "etc", hall.root / "phases", hall.root / "cache"):
        directory.mkdir(parents=True)
    (made / "etc/motd").write_text("{{ motd }}\n")
    key = (hall.root / "a/state/keys/metadata-signing.pub").read_text()
    public = hall.inside(
        hall.a.netns, sys.executable, "-c",
        f"from pathlib import Path; from baremetal.serve.tls import public_hex; "
        f"print(public_hex(Path('{hall.root}/a/state/keys/metadata-signing.pub')))",
    )  # fmt: skip
    assert key
    urls = ["https://10.78.0.2:8443", "https://10.78.0.1:8443"]
    about = {"urls": urls, "ca_pem": (hall.root / "a/state/tls/ca.pem").read_text(), "nonce": ""}
    about |= {"node": node.id, "name": "n1", "metadata_public_key": public.strip()}
    (state / "agent.json").write_text(json.dumps(about))
    (state / "token").write_text(json.dumps({"token": TOKEN, "nonce": ""}))
    words = ["--state", str(state), "--templates", str(made), "--output", str(output), "--cachedir"]
    words += [str(hall.root / "cache"), "--phases", str(hall.root / "phases"), "--drive-wait", "0"]
    motd = output / "etc/motd"
    hall.a.cli("metadata", "set", "n1", "motd=one")
    with (hall.root / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            ["ip", "netns", "exec", hall.client, sys.executable, "-m", "baremetal", "agent", "run", *words],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: motd.exists() and motd.read_text() == "one\n", 120, hall.root / "agent.log")
        time.sleep(2)  # it reported, and holds its request at b
        hall.a.cli("metadata", "set", "n1", "motd=two")
        until(lambda: motd.read_text() == "two\n", 25, "set at a, held at b: by itself it asks again after 55 s")
        hall.b.kill()
        hall.a.cli("metadata", "set", "n1", "motd=three")
        until(lambda: motd.read_text() == "three\n", 120, hall.root / "agent.log")

        def reported() -> bool:
            shown = json.loads(hall.a.cli("node", "show", "n1", "--json"))["config"]
            return bool(shown and shown.get("generation") == shown.get("wanted_generation"))

        until(reported, 90, "the report reached the other server")
    finally:
        agent.kill()
        agent.wait()
    hall.b.start()
    until(hall.b.up, 120, "b is back")


def test_one_gives_out_the_addresses_and_the_other_takes_over_with_its_leases(hall: Hall) -> None:
    until(lambda: hall.a.holds() == ["a"], 60, "a gives out the addresses")
    mine = hall.dhclient("02:00:00:00:00:21")
    assert mine.startswith("10.78.0.")
    offered = until(lambda: hall.offers("02:00:00:00:00:22"), 60, "an offer")
    assert [offer["by"] for offer in offered] == ["10.78.0.1"]
    until(lambda: mine in hall.a.cli("network", "leases"), 60, "its lease is in the database")
    hall.a.kill()
    begun = time.monotonic()
    until(lambda: hall.udhcpc("02:00:00:00:00:21") == mine, 120, "the other server knows the lease")
    print(f"the same address from the other server after {time.monotonic() - begun:.1f} s")
    until(lambda: hall.b.holds() == ["b"], 60, "b gives out the addresses")
    other = until(lambda: hall.udhcpc("02:00:00:00:00:23"), 60, "an address of another machine")
    assert other != mine
    offered = until(lambda: hall.offers(RESERVED), 60, "an offer")
    assert [offer["by"] for offer in offered] == ["10.78.0.2"]
    hall.a.start()
    until(hall.a.up, 120, "a is back")
    until(lambda: hall.a.holds() == ["b"], 60, "who came back takes nothing away")
    assert until(lambda: hall.udhcpc("02:00:00:00:00:21"), 60, "an address") == mine


def test_an_image_added_on_one_server_is_fetched_by_the_other_over_its_boot_plane(hall: Hall) -> None:
    raw = hall.root / "web.raw"
    raw.write_bytes(b"w" * 510 + b"\x55\xaa" + b"w" * ((6 << 20) - 512))
    hall.a.cli("image", "add", str(raw), "--name", "web")
    mine = {path.name for path in (hall.root / "a/state/images").iterdir() if len(path.name) == 64}

    def there() -> bool:
        return mine == {path.name for path in (hall.root / "b/state/images").glob("?" * 64)}

    until(there, 120, hall.root / "b.log")
    hall.b.cli("image", "verify", "web")
