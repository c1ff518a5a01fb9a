"""Our clients against BMCs we did not write, and clients we did not write against ours.

OpenIPMI's ipmi_sim (Debian: openipmi) is in the gate. OpenStack's sushy and its emulator are in `./hack/test --ring
peers`: pip install sushy sushy-tools in an environment of its own; BAREMETAL_SUSHY_EMULATOR names its sushy-emulator.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

from baremetal.bmc.base import BmcAuth, BootDevice, Power, PowerOp
from baremetal.bmc.careful import Care, Careful
from baremetal.bmc.console import open_console
from baremetal.bmc.drivers import driver as make
from baremetal.bmc.presession import auth_request
from baremetal.bmc.url import BmcUrl
from baremetal.secrets import Secret

gate = pytest.mark.integration
peers = pytest.mark.peers
RUN = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 250}"  # another test run may be under way beside us
SIM, SUSHY = f"{RUN}.33", f"{RUN}.34"
CHASSIS = """#!/bin/sh
d=$1; shift
case "$1 $2" in
"get power") echo "power:$(cat $d/power 2>/dev/null || echo 0)";;
"get boot") echo "boot:$(cat $d/boot 2>/dev/null || echo default)";;
"set power") echo $3 > $d/power;;
"set boot") echo $3 > $d/boot;;
esac
"""
CONF = """name "peer"
set_working_mc 0x20
  startlan 1
    addr {address} 623
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid 4c4c4544000040008000000000000003
  endlan
  chassis_control "{program} {state}"
  sol "tcp:{address}:9033" 115200 history=4000
  user 2 true "admin" "secret" admin 10 none md2 md5 straight
"""
EMU = """mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""


def tool(name, variable):
    found = os.environ.get(variable, "") or shutil.which(name)
    assert found, f"{name} is not installed; see the head of this file"
    return found


@contextlib.contextmanager
def simulator(tmp_path):
    """ipmi_sim at SIM; yields the directory with its machine's state."""
    program = tmp_path / "chassis"
    program.write_text(CHASSIS)
    program.chmod(0o755)
    state = tmp_path / "machine"
    state.mkdir()
    (tmp_path / "saved").mkdir()
    (tmp_path / "conf").write_text(CONF.format(address=SIM, program=program, state=state))
    (tmp_path / "emu").write_text(EMU)
    command = [tool("ipmi_sim", "BAREMETAL_IPMI_SIM"), "-c", "conf", "-f", "emu", "-s", "saved", "-n"]
    # Its standard input must be a pipe that stays open.
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    answers(SIM)
    try:
        yield state
    finally:
        process.kill()
        process.wait()


def answers(address):
    """Returns when the simulator does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        asking.connect((address, 623))
        for _ in range(300):
            with contextlib.suppress(OSError):
                asking.send(auth_request())
                if asking.recv(200):
                    return
            time.sleep(0.05)
    raise AssertionError("ipmi_sim does not answer")


@pytest.fixture
def ipmi_sim(tmp_path):
    with simulator(tmp_path) as state:
        yield state


@gate
@pytest.mark.parametrize("client", ["rmcp", "pyghmi"])
async def test_ipmi_sim(ipmi_sim, client):
    bmc = Careful(make(BmcUrl.parse(f"ipmi://admin@{SIM}?driver={client}"), "secret"), "peer", Care(confirm_s=30))
    who = await bmc.identify()
    assert who.manufacturer_id == 4753
    assert who.cipher == 3
    await bmc.set_power(PowerOp.ON)
    assert await bmc.power() is Power.ON
    assert (ipmi_sim / "power").read_text().strip() == "1"
    assert (await bmc.set_boot(BootDevice.PXE)).device is BootDevice.PXE
    assert (ipmi_sim / "boot").read_text().strip() == "pxe"
    assert [user.name for user in await bmc.users() if user.name] == ["admin"]
    await bmc.events()
    await bmc.sensors()
    await bmc.close()


@gate
async def test_ipmi_sim_refuses_a_wrong_password(ipmi_sim):
    bmc = make(BmcUrl.parse(f"ipmi://admin@{SIM}"), "wrong")
    with pytest.raises(BmcAuth) as caught:
        await bmc.power()
    assert caught.value.cause == "password"
    await bmc.close()


@gate
async def test_ipmi_sim_console(tmp_path):
    async def echo(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(b"<" + data + b">")
        writer.close()

    # The server first: ipmi_sim dials when it starts.
    async with await asyncio.start_server(echo, SIM, 9033):
        with simulator(tmp_path):
            await talk()


async def talk():
    """Says hello to the echo behind the simulator's serial line."""
    await asyncio.sleep(0.5)
    console = await open_console(BmcUrl.parse(f"ipmi://admin@{SIM}"), Secret("secret"))
    await console.write(b"hello")
    seen = b""
    async with asyncio.timeout(120):
        async for chunk in console:
            seen += chunk
            if b">" in seen:
                break
    assert seen.startswith(b"<h")
    await console.close()


@pytest.fixture
def sushy(tmp_path):
    emulator = tool("sushy-emulator", "BAREMETAL_SUSHY_EMULATOR")
    environment = {**os.environ, "SUSHY_EMULATOR_STATE_DIR": str(tmp_path)}
    command = [emulator, "--fake", "-i", SUSHY, "-p", "8034"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://{SUSHY}:8034/redfish/v1/", timeout=1).close()
            break
        time.sleep(0.2)
    yield f"redfish+http://admin@{SUSHY}:8034"
    process.kill()
    process.wait()


@peers
async def test_sushy_emulator(sushy):
    bmc = Careful(make(BmcUrl.parse(sushy), "secret"), "sushy", Care(confirm_s=15))
    who = await bmc.identify()
    assert who.vendor == "Sushy Emulator"
    assert who.uuid
    assert who.macs
    for op, state in ((PowerOp.ON, Power.ON), (PowerOp.OFF, Power.OFF)):
        await bmc.set_power(op)
        assert await bmc.power() is state
    for device in (BootDevice.PXE, BootDevice.DISK, BootDevice.CDROM):
        assert (await bmc.set_boot(device)).device is device
    assert any(reading.unit == "°C" for reading in await bmc.sensors())
    await bmc.locate(True)
    await bmc.close()


SUSHY_CLIENT = """
import sys, sushy, urllib3
from sushy import auth
urllib3.disable_warnings()
service = sushy.Sushy(sys.argv[1], verify=False, auth=auth.SessionAuth("admin", "password"))
system = service.get_system(service.get_system_collection().members_identities[0])
system.reset_system(sushy.RESET_TYPE_ON)
system.refresh()
assert system.power_state == sushy.SYSTEM_POWER_STATE_ON, system.power_state
once = sushy.BOOT_SOURCE_ENABLED_ONCE
system.set_system_boot_options(sushy.BOOT_SOURCE_TARGET_PXE, enabled=once)
system.refresh()
assert system.boot.target == sushy.BOOT_SOURCE_TARGET_PXE
url = "http://192.0.2.1/x.efi"
system.set_system_boot_options(sushy.BOOT_SOURCE_TARGET_UEFI_HTTP, enabled=once, http_boot_uri=url)
system.refresh()
assert system.boot.http_boot_uri == url
system.bios.set_attribute("SriovGlobalEnable", "Enabled")
assert dict(system.bios.pending_attributes)["SriovGlobalEnable"] == "Enabled"
system.secure_boot.set_enabled(True)
system.secure_boot.refresh()
assert system.secure_boot.enabled
assert len(system.ethernet_interfaces.summary) == 1
manager = service.get_manager(service.get_manager_collection().members_identities[0])
drive = manager.virtual_media.get_members()[0]
drive.insert_media("http://192.0.2.1/x.iso")
drive.refresh()
assert drive.inserted
drive.eject_media()
chassis = service.get_chassis(service.get_chassis_collection().members_identities[0])
assert [one.name for one in chassis.thermal.temperatures] == ["CPU Temp", "Inlet Temp"]
system.reset_system(sushy.RESET_TYPE_FORCE_OFF)
"""


@peers
async def test_sushys_client_drives_our_redfish_face():
    from baremetal.lab.bmc import VirtualBmc
    from baremetal.lab.chassis import MemoryChassis, diskless_bmc
    from baremetal.lab.redfish.face import Face
    from baremetal.lab.redfish.service import Service

    chassis = MemoryChassis()
    bmc = diskless_bmc(chassis)
    face = Face(bmc, macs=("52:54:00:aa:bb:01",))
    async with Service({SUSHY: (face, VirtualBmc(bmc, SUSHY, 0))}, port=8035):
        python = os.path.join(os.path.dirname(tool("sushy-emulator", "BAREMETAL_SUSHY_EMULATOR")), "python")
        child = await asyncio.create_subprocess_exec(
            python, "-c", SUSHY_CLIENT, f"https://{SUSHY}:8035", stderr=asyncio.subprocess.PIPE
        )
        _, said = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 0, said.decode()
    assert not chassis.on
    assert len(chassis.boots) == 1
