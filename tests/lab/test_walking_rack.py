"""Blank machines to configured nodes, on BIOS and on UEFI with OVMF's own PXE stack, and the faults on the way.

The tests of this file use one rack, in order: first what the demo did, then
node-0 is released, and deployed again under one fault after the other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Walked

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

NODE = "node-0"


def of(walked: Walked, firmware: str) -> dict[str, Any]:
    return next(node for node in walked.document["nodes"] if node["firmware"] == firmware)


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_blank_machine_became_a_configured_node(walked: Walked, firmware: str) -> None:
    node = of(walked, firmware)
    assert node["state"] == "active"
    assert node["configured"] is True
    assert "<h1>Changed while it runs</h1>" in node["page"]


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_every_stage_is_on_the_timeline(walked: Walked, firmware: str) -> None:
    names = " | ".join(stage["name"] for stage in of(walked, firmware)["stages"])
    for stage in ("DHCP", "script", "hello", "inspect", "erase_devices_metadata", "write_image", "configured"):
        assert stage in names


def test_the_change_reached_every_page_within_seconds(walked: Walked) -> None:
    assert 0 < walked.document["change_s"] < 60


def test_the_node_lets_us_in_and_knows_that_it_is_configured(walked: Walked) -> None:
    done = walked.lab("ssh", NODE, "--", "baremetal", "agent", "status", "--json", timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"]["outcome"] in ("applied", "unchanged")


def test_the_console_was_recorded(walked: Walked) -> None:
    log = walked.lab("console", NODE, "--log").stdout
    assert "deploy ramdisk" in log


def test_the_server_recorded_the_console_over_the_bmc(walked: Walked) -> None:
    """Serial over LAN, from the ramdisk's boot on, and the timeline says where to read it."""
    told = json.loads(walked.ok("node", "events", NODE, "--json", "--limit", "2000"))["events"]
    recordings = [e for e in told if e["kind"] == "console" and e["stage"] == "recording"]
    assert recordings, [e["stage"] for e in told if e["kind"] == "console"]
    text = "".join(walked.ok("node", "console", NODE, "--boot", e["boot_id"]) for e in recordings)
    assert "deploy ramdisk" in text
    stages = json.loads(walked.ok("node", "timeline", NODE, "--json"))["stages"]
    assert any(s["kind"] == "console" and "baremetal node console" in s["detail"] for s in stages)


def test_release_cleans_the_disk(walked: Walked) -> None:
    walked.ok("node", "undeploy", NODE, "--wait", timeout_s=600)
    node = walked.node(NODE)
    assert (node["state"], node["fault"]) == ("available", None)
    disk = walked.lab_dir / "nodes" / NODE / "disk0.qcow2"
    done = subprocess.run(
        ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", "read -P 0 0 1M", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Pattern verification failed" not in done.stdout


def test_a_corrupt_image_is_refused_before_it_reaches_the_disk(walked: Walked) -> None:
    _wounded(walked, "corrupt-image", "image-chunk-corrupt")


def test_a_disk_that_is_too_small_is_said_so(walked: Walked) -> None:
    _wounded(walked, "disk-small", "no-disk", reboot=True)


def _wounded(walked: Walked, fault: str, code: str, *, reboot: bool = False) -> None:
    """Deploy under a fault: it fails with the code, says what to do, and explain knows where."""
    assert walked.lab("fault", NODE, fault).returncode == 0
    try:
        if reboot:
            _off(walked)
        done = walked.cli("node", "deploy", NODE, "--image", "demo", "--wait", timeout_s=900)
        assert done.returncode == 1
        assert "fix:" in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        found = walked.node(NODE)["fault"]
        assert (found["code"], bool(found["brief"]), bool(found["fix"])) == (code, True, True)
        explained = json.loads(walked.ok("node", "explain", NODE, "--json"))
        assert explained["fault"]["code"] == code
        assert "write_image" in explained["where"]
        console = found["evidence"]["console"]
        assert "deploy ramdisk" in walked.ok(*console.split()[1:])
    finally:
        assert walked.lab("fault", NODE, "heal").returncode == 0
    if reboot:
        _off(walked)
    _available(walked)


def _off(walked: Walked) -> None:
    walked.ok("node", "power", NODE, "off", "--yes")
    deadline = time.monotonic() + 300
    while walked.node(NODE)["power"] != "off":
        assert time.monotonic() < deadline, walked.node(NODE)
        time.sleep(1)


def _available(walked: Walked) -> None:
    walked.ok("node", "undeploy", NODE, "--wait", timeout_s=900)
    assert walked.node(NODE)["state"] == "available"


def test_a_wrong_bmc_password_keeps_the_node_where_it_is(walked: Walked) -> None:
    walked.ok("node", "manage", NODE, "--wait")
    assert walked.lab("fault", NODE, "bmc-wrong-password").returncode == 0
    try:
        done = walked.cli("node", "manage", NODE, "--wait")
        assert done.returncode == 1
        assert "password" in (done.stderr + done.stdout).lower()
        assert "secret" not in done.stderr + done.stdout
        assert walked.node(NODE)["fault"]["code"] == "bmc-auth"
    finally:
        walked.lab("fault", NODE, "heal")
    # Refused credentials rest for a minute, so that no account gets locked.
    deadline = time.monotonic() + 300
    while walked.cli("node", "manage", NODE, "--wait").returncode and time.monotonic() < deadline:
        time.sleep(5)
    walked.ok("node", "provide", NODE, "--wait", timeout_s=600)


def test_a_bmc_that_falls_silent_while_deploying_is_told_and_waited_for(walked: Walked) -> None:
    walked.ok("node", "deploy", NODE, "--image", "demo")
    _until_step(walked, "write_image")
    assert walked.lab("fault", NODE, "bmc-silent").returncode == 0
    try:
        node = _until(walked, lambda n: n["fault"] is not None or n["state"] == "active", 900)
        assert node["phase"] != "failed", node["fault"]
        assert node["fault"]["code"].startswith("bmc-"), node
        explained = json.loads(walked.ok("node", "explain", NODE, "--json"))
        assert "BMC" in explained["why"]
        assert "deploy." in explained["where"]
    finally:
        assert walked.lab("fault", NODE, "heal").returncode == 0
    node = _until(walked, lambda n: n["state"] == "active" or n["phase"] == "failed", 1200)
    assert (node["state"], node["fault"]) == ("active", None)
    _available(walked)


@pytest.mark.slow
def test_a_cable_pulled_before_the_ramdisk_boots_is_told_with_the_likely_cause(walked: Walked) -> None:
    """The whole ladder: 90 s a try (its firmware is known to be quick), three tries, one restart of the BMC."""
    if walked.node(NODE)["state"] != "available":  # run alone, the node is as the demo left it
        _available(walked)
    _off(walked)
    assert walked.lab("fault", NODE, "nic-down").returncode == 0
    begun = time.monotonic()
    try:
        done = walked.cli("node", "deploy", NODE, "--image", "demo", "--wait", timeout_s=900)
        assert done.returncode == 1
        node = walked.node(NODE)
        assert (node["fault"]["code"], node["fault"]["evidence"]["tries"]) == ("boot-no-dhcp", 3)
        assert "cable" in node["fault"]["fix"]
        explained = json.loads(walked.ok("node", "explain", NODE, "--json"))
        assert "no DHCP request was seen" in explained["why"]
    finally:
        assert walked.lab("fault", NODE, "heal").returncode == 0
    print(f"given up after {time.monotonic() - begun:.0f} s")
    _available(walked)


def _until(walked: Walked, test: Callable[[dict[str, Any]], bool], timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    node = walked.node(NODE)
    while not test(node) and time.monotonic() < deadline:
        time.sleep(1)
        node = walked.node(NODE)
    return node


def test_a_server_killed_while_deploying_loses_nothing(walked: Walked) -> None:
    walked.ok("node", "deploy", NODE, "--image", "demo")
    _until_step(walked, "write_image")
    _crash(walked.lab_dir)
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        done = walked.cli("node", "show", NODE, "--json")
        node = json.loads(done.stdout) if done.returncode == 0 else {}
        if node.get("state") == "active" or node.get("phase") == "failed":
            break
        time.sleep(2)
    assert (node["state"], node["fault"]) == ("active", None)
    assert node["config"]["outcome"] in ("applied", "unchanged")


def _until_step(walked: Walked, step: str) -> None:
    deadline = time.monotonic() + 600
    while step not in str(walked.node(NODE)["step"]):
        assert time.monotonic() < deadline, walked.node(NODE)
        time.sleep(0.2)


def _crash(lab_dir: Path) -> None:
    from baremetal.lab import control

    assert control.ask(lab_dir, {"do": "crash-server"})["ok"]


def test_ctrl_c_ends_everything(walked: Walked, tmp_path: Path, leftovers_of: Callable[[Path], list[str]]) -> None:
    words = ["baremetal", "lab", "demo", "--nodes", "1", "--state-dir", str(tmp_path)]
    # A test run in the background may have been told to ignore Ctrl-C.
    command = ["env", "--default-signal=INT", sys.executable, "-m", *words]
    with (tmp_path / "seen").open("w+") as seen:
        demo = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=seen, stderr=seen, start_new_session=True)
        deadline = time.monotonic() + 600
        while "inspect wait" not in (tmp_path / "seen").read_text() and time.monotonic() < deadline:
            assert demo.poll() is None, (tmp_path / "seen").read_text()[-3000:]
            time.sleep(0.2)
        os.killpg(demo.pid, signal.SIGINT)
        code = demo.wait(180)
    text = (tmp_path / "seen").read_text()
    assert code == 130, text[-3000:]
    assert "Traceback" not in text
    assert leftovers_of(tmp_path) == []
