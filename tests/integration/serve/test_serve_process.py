"""The server as processes: it starts, gives up root, heals after kill -9, stops in order, and says what is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

BOOT, CONTROL = "serve.bootproc", "serve.control"


def capabilities(pid: int) -> set[int]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return {n for n in range(64) if bits >> n & 1}
    return set()


def uid(pid: int) -> int:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("Uid:"))
    return int(line.split()[1])


def test_serves_and_stops_without_leaving_anything(site):
    site.serve()
    assert site.cli("status").returncode == 0
    ca = f"{site.root}/state/tls/ca.pem"
    answer = site.curl("--cacert", ca, "-w", "%{http_code}", "https://192.168.91.1:8443/agent/v1/order").stdout
    assert answer.endswith("401")
    assert json.loads(answer[:-3])["error"]["code"] == "no-token"
    assert "#!ipxe" in site.curl("http://192.168.91.1:8080/boot/52-54-00-00-00-01.ipxe").stdout
    assert site.stop() == 0
    assert site.pids() == []
    assert not (site.root / "run/api.sock").exists()


USERS = [("daemon", "nobody"), ("", "nobody"), ("daemon", "")]  # user, boot_user; set after init, as people do


@pytest.mark.parametrize(("user", "boot_user"), USERS)
def test_processes_give_up_root(site, user, boot_user):
    text = site.config.read_text()
    site.config.write_text(f'user = "{user}"\nboot_user = "{boot_user}"\n{text}')
    site.serve()
    boot, control = site.pid(BOOT), site.pid(CONTROL)
    assert uid(boot) == (65534 if boot_user else 0)
    assert uid(control) == (1 if user else 0)
    assert capabilities(boot) <= {10, 13}  # NET_BIND_SERVICE, NET_RAW
    assert capabilities(control) == set()
    for pid in (boot, control):
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
    reads = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat"]
    for secret in ("keys/operator.key", "baremetal.db", "tls/server.key", "keys/metadata.key", "keys/boot.key"):
        assert site.run(*reads, f"{site.root}/state/{secret}", check=False).returncode != 0, secret
    site.cli("node", "enroll", "n1", "--bmc", "fake://n1", "--mac", "52:54:00:00:00:01", "--wait")
    os.kill(control, signal.SIGKILL)
    site.until(lambda: site.pid(CONTROL) not in (0, control))
    site.until(site.up)
    assert site.stop() == 0
    assert "Traceback" not in site.log.read_text()


def test_boot_plane_heals_after_kill_9(site):
    site.serve()
    old = site.pid(BOOT)
    os.kill(old, signal.SIGKILL)
    site.until(lambda: site.pid(BOOT) not in (0, old))
    site.until(site.up)
    site.until(lambda: "#!ipxe" in site.curl("http://192.168.91.1:8080/boot/52-54-00-00-00-01.ipxe").stdout)


def test_boot_plane_answers_while_control_is_dead(site):
    site.serve()
    site.cli("node", "enroll", "n1", "--bmc", "fake://n1", "--mac", "52:54:00:00:00:01")
    url = "http://192.168.91.1:8080/boot/52-54-00-00-00-01.ipxe"
    site.until(lambda: "n1 is" in site.curl(url).stdout)
    supervisor, control, boot = site.server.pid, site.pid(CONTROL), site.pid(BOOT)
    os.kill(supervisor, signal.SIGSTOP)  # so that nobody starts control again
    os.kill(control, signal.SIGKILL)
    ca = f"{site.root}/state/tls/ca.pem"
    words = ("--cacert", ca, "-d", '{"nonce":"x","macs":[]}', "https://192.168.91.1:8443/agent/v1/hello")
    site.until(lambda: '"control-away"' in site.curl(*words).stdout)
    assert "n1 is" in site.curl(url).stdout
    os.kill(supervisor, signal.SIGCONT)
    site.until(site.up)
    assert site.pid(BOOT) == boot
    assert "n1" in site.cli("node", "list").stdout


def test_boot_plane_killed_while_control_is_dead_still_knows_its_nodes(site):
    site.serve()
    site.cli("node", "enroll", "n1", "--bmc", "fake://n1", "--mac", "52:54:00:00:00:01")
    url = "http://192.168.91.1:8080/boot/52-54-00-00-00-01.ipxe"
    site.until(lambda: "n1 is" in site.curl(url).stdout)
    site.stop()
    (site.root / "state/keys/operator.key").rename(site.root / "away")  # control cannot start, boot can
    argv = site.command(sys.executable, "-m", "baremetal.serve.bootproc")
    boot = subprocess.Popen(argv, env=site.env, stderr=subprocess.DEVNULL)
    try:
        site.until(lambda: "n1 is" in site.curl(url).stdout)
    finally:
        boot.terminate()
        boot.wait(60)


def test_nothing_survives_the_supervisor(site):
    site.serve()
    os.kill(site.server.pid, signal.SIGKILL)
    site.server.wait(60)
    site.until(lambda: site.pids() == [])
    site.serve()


def test_second_server_is_refused(site):
    site.serve()
    done = site.cli("serve", check=False)
    assert done.returncode == 8
    assert f"pid {site.server.pid}" in done.stderr


FAULTS = [  # what is wrong, what the error says
    ("tftp", "UDP port 69 on 192.168.91.1 is taken by python"),
    ("http", "TCP port 8080 on 192.168.91.1 is taken by python"),
    ("dhcp", "UDP port 67 on 192.168.91.1 is taken by python"),
]
HOLD = """
import socket, sys, time
kind, port, address = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.bind((address, int(port)))
s.listen() if kind == "tcp" else None
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("service", "says"), FAULTS)
def test_taken_port_names_the_holder(site, service, says):
    kind, port, address = {
        "tftp": ("udp", "69", "192.168.91.1"),
        "http": ("tcp", "8080", "0.0.0.0"),
        "dhcp": ("udp", "67", "0.0.0.0"),
    }[service]
    holder = subprocess.Popen(
        site.command(sys.executable, "-c", HOLD, kind, port, address), stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "ready\n"
        done = site.cli("serve", check=False)
        assert done.returncode == 8
        assert says in done.stderr  # python or python3: as the interpreter was called
        assert f"pid {holder.pid}" in done.stderr
        assert "fix:" in done.stderr
    finally:
        holder.kill()
        holder.wait()
    assert site.pids() == []


def test_missing_interface_and_address(site):
    site.run("ip", "-n", site.netns, "addr", "flush", "dev", "prov0", inside=False)
    done = site.cli("serve", check=False)
    assert (done.returncode, "ip addr add 192.168.91.1/24 dev prov0" in done.stderr) == (8, True)
    site.run("ip", "-n", site.netns, "link", "del", "prov0", inside=False)
    done = site.cli("serve", check=False)
    assert (done.returncode, "no interface prov0" in done.stderr) == (8, True)


def test_not_root(site):
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    done = site.run(*words, sys.executable, "-m", "baremetal", "serve", check=False, cwd="/")
    assert done.returncode == 8
    assert "serve needs root" in done.stderr
    assert "systemctl start baremetal" in done.stderr


def test_full_disk(make_site):
    site = make_site(init=False)
    (site.root / "state").mkdir()
    site.run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", f"{site.root}/state", inside=False)
    try:
        site.cli("init")
        done = site.cli("serve", check=False)
        assert (done.returncode, "the disk is full" in done.stderr) == (8, True)
    finally:
        site.run("umount", f"{site.root}/state", inside=False)


def test_without_init(make_site):
    done = make_site(init=False).cli("serve", check=False)
    assert (done.returncode, "fix: baremetal init" in done.stderr) == (8, True)


def test_doctor_is_content_with_a_running_server(site):
    site.serve()
    done = site.cli("doctor", "--json")
    checks = {c["check"]: c["verdict"] for c in json.loads(done.stdout)["checks"]}
    assert checks["loader by TFTP, prov"] == "pass"
    assert checks["rival DHCP on prov"] == "pass"


def test_sd_notify_tells_when_it_serves(site):
    import socket

    path = site.root / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(90)
        site.env["NOTIFY_SOCKET"] = str(path)
        site.start()
        while b"READY=1" not in (said := sock.recv(1000)):
            assert said.startswith(b"STATUS=")
        site.stop()
        assert sock.recv(1000) == b"STOPPING=1"


def test_doctor_names_another_server_of_ours_as_what_it_is(make_site):
    first = make_site()
    first.serve()
    config = first.root / "other.toml"
    config.write_text(first.config.read_text().replace(f"{first.root}/", f"{first.root}/other/"))
    first.cli("--config", str(config), "init")
    told = first.cli("--config", str(config), "doctor", check=False)
    assert "taken by another baremetal server" in told.stdout
    assert "systemctl stop python" not in told.stdout
    assert told.returncode == 8
