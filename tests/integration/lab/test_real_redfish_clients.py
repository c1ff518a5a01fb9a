"""Redfish over TLS: curl, pyghmi's client, and sushy (in a virtual environment of its own) drive our BMC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator

import pytest
from loopback import address

from baremetal.lab.bmc import Fleet, VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.lab.redfish.face import Face
from baremetal.lab.redfish.service import Service

pytestmark = pytest.mark.integration
ADDRESS = address(2)
BASE = f"https://{ADDRESS}"


@pytest.fixture
def redfish() -> Iterator[VirtualBmc]:
    virtual = VirtualBmc(diskless_bmc(MemoryChassis()), ADDRESS)
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        face = Face(virtual.bmc, ("52:54:00:00:00:01",))
        async with Fleet([virtual]), Service({ADDRESS: (face, virtual)}):
            ready.set()
            while not stop.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield virtual
    finally:
        stop.set()
        thread.join()


def curl(path: str, *more: str, login: str = "admin:password") -> tuple[int, object]:
    argv = ["curl", "-sk", "-m", "120", "-u", login, "-w", "\n%{http_code}", *more, BASE + path]
    body, _, status = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.rpartition("\n")
    return int(status), json.loads(body) if body.strip() else None


def test_curl(redfish):
    status, root = curl("/redfish/v1/")
    assert (status, root["RedfishVersion"]) == (200, "1.11.0")
    patch = ("-X", "PATCH", "-d", json.dumps({"Boot": {"BootSourceOverrideTarget": "Pxe"}}))
    assert curl("/redfish/v1/Systems/1", *patch)[0] == 200
    order = ("-X", "POST", "-d", json.dumps({"ResetType": "On"}))
    assert curl("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", *order)[0] == 204
    assert curl("/redfish/v1/Systems/1")[1]["PowerState"] == "On"
    assert curl("/redfish/v1/Systems/1", login="admin:wrong")[0] == 401


def test_ipmitool_sees_what_redfish_set(redfish):
    patch = ("-X", "PATCH", "-d", json.dumps({"Boot": {"BootSourceOverrideTarget": "Pxe"}}))
    curl("/redfish/v1/Systems/1", *patch)
    argv = [
        "ipmitool",
        "-I",
        "lanplus",
        "-H",
        ADDRESS,
        "-U",
        "admin",
        "-P",
        "password",
        "chassis",
        "bootparam",
        "get",
        "5",
    ]
    assert "Force PXE" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_silent_bmc_is_silent_here_too(redfish):
    redfish.faults.silent = True
    argv = ["curl", "-sk", "-m", "1", BASE + "/redfish/v1/"]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 28


PYGHMI = """
import sys
from pyghmi.redfish.command import Command
c = Command(sys.argv[1], "admin", "password", verifycallback=lambda certificate: True)
assert c.get_power() == {"powerstate": "off"}
assert c.set_power("on", wait=True) == {"powerstate": "on"}
c.set_bootdev("network")
[(name, system)] = [item for item in c.get_inventory() if item[0] == "System"]
assert system["Serial Number"] == "SN0", system
"""


def test_pyghmi_redfish(redfish):
    done = subprocess.run(
        [sys.executable, "-c", PYGHMI, ADDRESS], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stderr


SUSHY = """
import sushy, sys, urllib3
urllib3.disable_warnings()
root = sushy.Sushy(sys.argv[1], username="admin", password="password", verify=False)
[system] = root.get_system_collection().get_members()
assert system.power_state == sushy.PowerState.OFF
once, kept = sushy.BootSourceOverrideEnabled.ONCE, sushy.BootSourceOverrideEnabled.CONTINUOUS
system.set_system_boot_options(sushy.BootSource.PXE, enabled=once)
system.refresh()
assert (system.boot["target"], system.boot["enabled"]) == (sushy.BootSource.PXE, once)
system.reset_system(sushy.ResetType.ON)
system.refresh()
assert (system.power_state, system.boot["target"]) == (sushy.PowerState.ON, sushy.BootSource.NONE)
system.set_system_boot_options(sushy.BootSource.UEFI_HTTP, enabled=kept, http_boot_uri="http://192.168.90.1/x.efi")
system.refresh()
assert system.boot["target"] == sushy.BootSource.UEFI_HTTP
assert system.boot["http_boot_uri"] == "http://192.168.90.1/x.efi"
assert list(system.ethernet_interfaces.summary) == ["52:54:00:00:00:01"]
assert system.bios.attributes["BootMode"] == "Uefi" and system.secure_boot.enabled is False
[manager] = root.get_manager_collection().get_members()
[cd] = manager.virtual_media.get_members()
cd.insert_media("http://192.168.90.1/a.iso")
cd.refresh()
assert cd.inserted and cd.image.endswith("a.iso")
cd.eject_media()
[chassis] = root.get_chassis_collection().get_members()
assert {t.name: t.reading_celsius for t in chassis.thermal.temperatures}["CPU Temp"] == 41
assert [s.username for s in root.get_session_service().sessions.get_members()] == ["admin"]
"""


@pytest.mark.peers
def test_sushy(redfish, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "sushy"], check=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run([python, "-c", SUSHY, BASE], capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        return
    pytest.fail("sushy hangs")
