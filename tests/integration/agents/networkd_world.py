"""Inside a network and mount namespace: a machine with systemd-networkd, and its server behind a cable.

Started by test_networkd_real.py; prints one JSON document. The server's end of
the cable is in a second network namespace, so that nothing is reachable but by
what networkd configures.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from baremetal.agents.resident import networkd
from baremetal.agents.resident.network import Network, NetworkReverted

MAC = "02:00:00:00:00:10"
NETWORKD = "/lib/systemd/systemd-networkd"
LISTEN = """
import socket
for a in ("10.9.0.1", "10.10.0.1"):
    s = socket.create_server((a, 8443)); globals()[a] = s
print("listening", flush=True)
while True:
    import time; time.sleep(60)
"""


def run(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True).stdout


class Daemon:
    """systemd-networkd; `restart` is what the agent calls."""

    def __init__(self, log):
        self.log, self.process = log, None

    def restart(self, between=lambda: None):
        self.stop()
        between()
        env = {**os.environ, "SYSTEMD_LOG_TARGET": "console", "SYSTEMD_LOG_LEVEL": "info"}
        self.process = subprocess.Popen([NETWORKD], stderr=self.log, env=env)

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


def until(test, seconds=60.0):
    """Waits for it, and goes on all the same: what comes next says what is wrong."""
    deadline = time.monotonic() + seconds
    while not test() and time.monotonic() < deadline:
        time.sleep(0.05)
    return test()


def prepare(directory, other):
    run("mount", "-t", "sysfs", "-o", "ro", "sysfs", "/sys")  # read-only: networkd then waits for no udev
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for name in ("links", "leases", "lldp"):
        Path(f"/run/systemd/netif/{name}").mkdir(parents=True)
    run("chown", "-R", "systemd-network:", "/run/systemd/netif")
    run("mount", "--bind", str(directory), "/etc/systemd/network")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "port0", "type", "veth", "peer", "name", "far0")
    run("ip", "link", "set", "port0", "address", MAC)
    run("ip", "link", "set", "far0", "netns", str(other))


def far_side(pid):
    def far(*words):
        run("nsenter", "-t", str(pid), "-n", *words)

    far("ip", "link", "set", "lo", "up")
    far("ip", "addr", "add", "10.9.0.1/24", "dev", "far0")
    far("ip", "addr", "add", "10.10.0.1/24", "dev", "far0")
    far("ip", "link", "set", "far0", "up")
    words = ["nsenter", "-t", str(pid), "-n", sys.executable, "-c", LISTEN]
    listener = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert listener.stdout.readline().strip() == "listening"
    return listener


def data(address, **more):
    link = {"id": "p", "type": "phy", "ethernet_mac_address": MAC}
    network = {"id": "n", "type": "ipv4", "link": "br", "ip_address": address, "netmask": "255.255.255.0"}
    routes = [{"network": "192.0.2.0", "netmask": "255.255.255.0", "gateway": address.rpartition(".")[0] + ".1"}]
    bridge = {"id": "br", "type": "bridge", "bridge_links": ["p"]}
    return {"links": [link, bridge], "networks": [{**network, "routes": routes}], "services": [], **more}


def seen():
    addresses = run("ip", "-br", "-4", "addr", "show", "dev", "br", check=False).split()[2:]
    return {"addresses": addresses, "route": run("ip", "route", "show", "192.0.2.0/24").strip()}


def main(scratch):
    directory = Path(scratch) / "root/etc/systemd/network"
    directory.mkdir(parents=True)
    other = subprocess.Popen(["unshare", "-n", "sleep", "300"])
    assert until(lambda: os.readlink(f"/proc/{other.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
    prepare(directory, other.pid)
    listener = far_side(other.pid)
    found = {}
    with open(Path(scratch) / "networkd.log", "w") as log:
        daemon = Daemon(log)
        daemon.restart()
        until(Path("/run/systemd/netif/state").exists, 10)
        it = Network(
            f"{scratch}/root", f"{scratch}/state", ["https://10.9.0.1:8443"], reload=daemon.restart, reach_s=60.0
        )
        try:
            found["first"] = [it.bring(data("10.9.0.5")), seen()]
            found["again"] = it.bring(data("10.9.0.5"))
            it.reach_s = 6.0
            try:
                it.bring(data("10.77.0.5"))
                found["wrong"] = f"kept: {seen()} {run('ip', 'route')} {run('ip', 'addr')}"
            except NetworkReverted as exc:
                found["wrong"] = exc.brief
            found["after"] = [until(it.reachable), seen()]
            everything(directory, daemon)
        finally:
            daemon.stop()
            for process in (listener, other):
                process.kill()
    print(json.dumps(found))


def everything(directory, daemon):
    """Every kind of link and network at once: real networkd reads each line of it."""
    macs = [f"02:00:00:00:00:2{n}" for n in range(3)]
    links = [{"id": f"e{n}", "type": "phy", "ethernet_mac_address": mac, "mtu": 1400} for n, mac in enumerate(macs)]
    links += [
        {
            "id": f"bond{n}",
            "type": "bond",
            "bond_links": [f"e{n}"],
            "bond_mode": mode,
            "bond_miimon": 100,
            "bond_xmit_hash_policy": "layer3+4",
            "ethernet_mac_address": macs[n],
        }
        for n, mode in enumerate(("802.3ad", "active-backup"))
    ]
    links.append({"id": "v", "type": "vlan", "vlan_link": "bond0", "vlan_id": 100, "vlan_mac_address": macs[0]})
    v6 = {"type": "ipv6", "ip_address": "2001:db8::5", "netmask": "64"}
    route = {"network": "2001:db8:1::", "netmask": "48", "gateway": "2001:db8::1"}
    networks = [
        {"id": "a", "type": "ipv4_dhcp", "link": "v"},
        {"id": "b", "type": "ipv6_slaac", "link": "bond1"},
        {"id": "c", "link": "e2", **v6, "routes": [route]},
    ]
    services = [{"type": "dns", "address": "10.0.0.9"}]
    for name, text in networkd.render({"links": links, "networks": networks, "services": services}).items():
        (directory / name).write_text(text)
    daemon.restart()
    time.sleep(2)


if __name__ == "__main__":
    main(sys.argv[1])
