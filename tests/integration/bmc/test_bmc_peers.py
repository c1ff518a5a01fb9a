"""Our clients against BMCs we did not write: OpenIPMI's ipmi_sim and OpenStack's sushy emulator.

`./hack/test --ring peers`. Needs ipmi_sim on PATH (Debian: openipmi; BAREMETAL_IPMI_SIM names another place) and
sushy-emulator (pip install sushy-tools, in an environment of its own; BAREMETAL_SUSHY_EMULATOR).
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
import urllib.request

import pytest

from baremetal.bmc.base import BmcAuth, BootDevice, Power, PowerOp
from baremetal.bmc.careful import Care, Careful
from baremetal.bmc.console import open_console
from baremetal.bmc.drivers import driver as make
from baremetal.bmc.url import BmcUrl
from baremetal.secrets import Secret

pytestmark = pytest.mark.peers
SIM = "127.91.0.33"
SUSHY = "127.91.0.34"
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
    found = os.environ.get(variable) or shutil.which(name)
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
    time.sleep(0.5)
    try:
        yield state
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def ipmi_sim(tmp_path):
    with simulator(tmp_path) as state:
        yield state


@pytest.mark.parametrize("client", ["rmcp", "pyghmi"])
async def test_ipmi_sim(ipmi_sim, client):
    bmc = Careful(make(BmcUrl.parse(f"ipmi://admin@{SIM}?driver={client}"), "secret"), "peer", Care(confirm_s=3))
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


async def test_ipmi_sim_refuses_a_wrong_password(ipmi_sim):
    bmc = make(BmcUrl.parse(f"ipmi://admin@{SIM}"), "wrong")
    with pytest.raises(BmcAuth) as caught:
        await bmc.power()
    assert caught.value.cause == "password"
    await bmc.close()


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
    async with asyncio.timeout(10):
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
