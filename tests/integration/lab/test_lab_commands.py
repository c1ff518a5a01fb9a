"""`baremetal lab …` as a person uses it: every verb once, on a rack whose machines stay off."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import address

pytestmark = pytest.mark.integration
BAREMETAL = str(Path(sys.executable).with_name("baremetal"))


class Shell:
    """Runs commands against one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def __call__(self, verb: str, *words: str, code: int = 0) -> str:
        argv = [BAREMETAL, "lab", verb, "--state-dir", str(self.state), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = Shell(tmp_path_factory.mktemp("cli") / "lab")
    made("up", "--nodes", "2", "--disk", "nvme", "--nic", "e1000e")
    yield made
    made("down")
    assert "no lab runs" in made("status", code=3)
    assert "nothing to stop" in made("down"), "as often as one likes"


def test_status(shell):
    assert "node-1  uefi" in shell("status")
    document = json.loads(shell("status", "--json"))
    assert [(n["name"], n["power"], n["boots"]) for n in document["nodes"]] == [
        ("node-0", "off", 0),
        ("node-1", "off", 0),
    ]
    assert "secret" not in json.dumps(document)


def test_the_rack_as_instackenv(shell):
    [first, second] = json.loads((shell.state / "instackenv.json").read_text())["nodes"]
    assert (first["pm_addr"], first["pm_user"], first["ports"]) == (
        "10.91.0.11",
        "admin",
        [{"address": "52:54:00:90:00:01"}],
    )
    assert second["capabilities"] == "boot_mode:uefi"


def test_a_second_lab_here_is_refused(shell):
    assert "already runs" in shell("up", code=4)


def test_two_started_at_once_are_one_lab(tmp_path):
    """The second is refused, whatever moment it comes at; it never shows the first one's rack as its own."""
    state = tmp_path / "lab"
    argv = [BAREMETAL, "lab", "up", "--json", "--state-dir", str(state), "--nodes"]
    pair = [subprocess.Popen([*argv, count], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for count in "12"]
    said = [process.communicate(timeout=180) for process in pair]
    try:
        assert sorted(process.returncode for process in pair) == [0, 4], said
        won = next(i for i, process in enumerate(pair) if process.returncode == 0)
        assert len(json.loads(said[won][0])["nodes"]) == won + 1
    finally:
        Shell(state)("down")


def test_a_rack_s_disks_are_not_the_demo_s_to_blank(tmp_path):
    state = tmp_path / "lab"
    (state / "nodes" / "node-0").mkdir(parents=True)
    disk = state / "nodes" / "node-0" / "disk0.qcow2"
    disk.write_bytes(b"work of a week")
    assert "holds the disks of a rack" in Shell(state)("demo", code=4)
    assert disk.read_bytes() == b"work of a week"


@pytest.mark.parametrize("after_s", [0.3, 0.8, 1.3])
def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path, after_s):
    state = tmp_path / "lab"
    command = [BAREMETAL, "lab", "up", "--nodes", "1", "--state-dir", str(state)]
    # A run in the background has inherited an ignored SIGINT.
    process = subprocess.Popen(
        command,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=180)
    try:
        was_up = "node-0" in said  # then the signal may have met Python's own end
        assert process.returncode == 130 or was_up
        if not was_up:
            end = time.monotonic() + 90
            while any(str(state) in text for text in command_lines()):
                assert time.monotonic() < end, command_lines()
                time.sleep(0.1)
            assert "nothing to stop" in Shell(state)("down")
    finally:
        Shell(state)("down")


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [text for text in found if "baremetal" in text and "-m pytest" not in text]


def test_a_demo_without_room_says_so_at_once(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount = f"mount -t tmpfs -o size=20m none {place} && exec {BAREMETAL} lab demo --state-dir {place}/lab"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 8, done.stderr
    assert "20 MiB free" in done.stderr
    assert "fix: make room" in done.stderr


def test_another_user_s_directory_is_left_alone(tmp_path):
    tmp_path.chmod(0o755)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (foreign / "spec.json").symlink_to(victim)
    os.chown(foreign, 65534, 65534)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    os.lchown(link, 65534, 65534)
    for place, said in ((foreign, "another user"), (shared, "everybody may write"), (link, "another user")):
        for verb in ("up", "demo"):
            assert said in Shell(place)(verb, code=4)
    assert victim.read_text() == "precious"


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Where other users may walk in; pytest's own directories are closed to them."""
    with tempfile.TemporaryDirectory(prefix="bm-lab-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_what_answers_for_another_user_is_no_lab(open_dir):
    """Else `lab exec` would run that user's programs as root."""
    place = open_dir / "lab"
    place.mkdir()
    os.chown(place, 65534, 65534)
    script = (
        "import os, socket, sys, time; os.setgid(65534); os.setuid(65534);"
        f"s = socket.socket(socket.AF_UNIX); s.bind({str(place / 'lab.sock')!r}); s.listen(); time.sleep(60)"
    )
    impostor = subprocess.Popen([sys.executable, "-c", script])
    try:
        end = time.monotonic() + 120
        while not (place / "lab.sock").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        for verb, words in (("exec", ("--", "id")), ("status", ()), ("down", ()), ("ssh", ("node-0",))):
            assert "no lab of ours" in Shell(place)(verb, *words, code=5), verb
    finally:
        impostor.kill()
        impostor.wait()


def test_wrong_words(shell, tmp_path):
    assert "none of virtio" in Shell(tmp_path)("up", "--nic", "tulip", code=2)
    assert "known: node-0, node-1" in shell("fault", "node-7", "nic-down", code=3)
    assert "no fault 'flood'" in shell("fault", "node-0", "flood", code=2)
    assert "known: node-0, node-1" in shell("console", "node-7", code=3)
    assert "no address yet" in shell("ssh", "node-0", code=3)


WRONG = [  # words, exit code, what is said
    ("bmcs --address banana", 2, "no 1 IPv4 addresses"),
    ("bmcs --address 255.255.255.250 --count 20", 2, "no 20 IPv4 addresses"),
    ("bmcs --port 99999", 2, "--port"),
    ("bmcs --port -1", 2, "--port"),
    ("bmcs --profile nope", 3, "no BMC profile"),
    ("bmcs --broken bmc-silent=9", 2, "9 broken BMCs of 1"),
    ("up --disk-gib 1e12", 2, "--disk-gib"),
    ("up --memory-mib 99999999999", 2, "--memory-mib"),
    ("up --secure-boot x", 2, "none of microsoft, snakeoil"),
    ("up --firmware bios,,uefi", 2, "none of bios, uefi"),
    ("up --state-dir /dev/null", 8, "cannot be the lab's"),
    ("demo --firmware vax", 2, "no firmware 'vax'"),
    ("demo --image nope", 3, "no image definition 'nope'"),
]


@pytest.mark.parametrize(("words", "code", "said"), WRONG, ids=[row[0] for row in WRONG])
def test_what_cannot_be_is_told_in_words(tmp_path, words, code, said):
    done = subprocess.run([BAREMETAL, "lab", *words.split()], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "fix: " in done.stderr
    assert "should not happen" not in done.stderr


def test_fault_list_is_complete(shell):
    from baremetal.lab.faults import FAULTS

    shown = shell("fault", "list")
    assert all(fault in shown for fault in FAULTS)


def test_commands_run_inside_the_rack_s_network(shell):
    shown = json.loads(shell("exec", "--", "ip", "-json", "address"))
    assert {"prov0", "tap0n0", "tap1n0"} <= {link["ifname"] for link in shown}
    [bridge] = [link for link in shown if link["ifname"] == "prov0"]
    assert {a["local"] for a in bridge["addr_info"]} >= {"192.168.90.1", "fd90::1"}
    assert bridge["operstate"] == "UP", "the bridge has a carrier while every machine is off"
    assert "prov0" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout


def test_a_command_runs_where_it_was_typed(shell):
    assert shell("exec", "--", "pwd").strip() == str(Path.cwd())


def test_console_on_a_terminal(shell):
    assert shell("console", "node-0", "--log") == ""
    master, slave = pty.openpty()
    argv = [BAREMETAL, "lab", "console", "--state-dir", str(shell.state), "node-0"]
    process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave)
    shown, end = b"", time.monotonic() + 20
    while b"Ctrl-] ends]" not in shown:
        assert time.monotonic() < end
        if select.select([master], [], [], 1)[0]:
            shown += os.read(master, 1000)
    while process.poll() is None:
        assert time.monotonic() < end
        os.write(master, b"\x1d")
        time.sleep(0.1)
    assert process.returncode == 0
    os.close(master)
    os.close(slave)


def test_bmcs_serve_until_interrupted():
    argv = [BAREMETAL, "lab", "bmcs", "--count", "3", "--address", address(254), "--json", "--profile", "old"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    document = json.loads(process.stdout.readline())
    assert document["addresses"] == [address(254), address(1, 1), address(2, 1)]
    login = ["ipmitool", "-I", "lanplus", "-H", address(2, 1), "-U", "admin", "-P", "password", "-C", "3"]
    assert "is off" in subprocess.run([*login, "power", "status"], capture_output=True, text=True, check=True).stdout
    process.send_signal(2)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "datagrams" in said


def test_bmcs_where_they_cannot_be():
    argv = [BAREMETAL, "lab", "bmcs", "--address", "203.0.113.7"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 8
    assert "ip address add 203.0.113.7/32 dev lo" in done.stderr
