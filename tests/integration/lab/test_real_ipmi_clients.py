"""ipmitool, FreeIPMI and pyghmi drive our virtual BMC."""

from __future__ import annotations

import sys

import pytest

from baremetal.wire.ipmi.codes import BootDevice

pytestmark = pytest.mark.integration


def test_ipmitool_identity(bench):
    info = bench.ipmitool("mc", "info")
    assert "IPMI Version              : 2.0" in info
    assert "4c4c4544-0033-4000-8000-000000000001" in bench.ipmitool("mc", "guid")
    fru = bench.ipmitool("fru", "print")
    assert "Acme" in fru
    assert "SN42" in fru
    assert "02:00:00:00:00:01" in bench.ipmitool("lan", "print", "1")


@pytest.mark.parametrize("suite", [3, 17])
def test_ipmitool_power(bench, suite):
    assert "is off" in bench.ipmitool("power", "status", suite=suite)
    bench.ipmitool("power", "on", suite=suite)
    assert "is on" in bench.ipmitool("power", "status", suite=suite)
    bench.ipmitool("power", "cycle", suite=suite)
    bench.ipmitool("power", "soft", suite=suite)
    assert "is off" in bench.ipmitool("power", "status", suite=suite)
    assert "not supported in present state" in bench.ipmitool("power", "cycle", suite=suite, ok=False)


def test_ipmitool_boot_device(bench):
    bench.ipmitool("chassis", "bootdev", "pxe", "options=efiboot,persistent")
    shown = bench.ipmitool("chassis", "bootparam", "get", "5")
    assert "e004000000" in shown
    bench.ipmitool("power", "on")
    bench.ipmitool("power", "reset")
    assert [b.device for b in bench.chassis.boots] == [BootDevice.PXE, BootDevice.PXE]
    bench.ipmitool("chassis", "bootdev", "disk")
    bench.ipmitool("power", "reset")
    assert "No override" in bench.ipmitool("chassis", "bootparam", "get", "5")


def test_ipmitool_lists(bench):
    assert "CPU Temp" in bench.ipmitool("sdr", "list")
    bench.ipmitool("power", "on")
    assert "Power Unit" in bench.ipmitool("sel", "list")
    bench.ipmitool("sel", "clear")
    assert "Log area reset/cleared" in bench.ipmitool("sel", "list")
    assert "ADMINISTRATOR" in bench.ipmitool("user", "list", "1")
    assert "hmac_sha256" in bench.ipmitool("channel", "getciphers", "ipmi", "1")
    assert "Volatile Bit Rate (kbps)        : 115.2" in bench.ipmitool("sol", "info", "1")


def test_ipmitool_refusals(bench):
    assert "Unable to establish" in bench.ipmitool("power", "status", password="wrong", ok=False)
    assert "Unable to establish" in bench.ipmitool("power", "status", user="nobody", ok=False)
    assert "no matching cipher suite" in bench.ipmitool("power", "status", suite=1, ok=False)


def test_freeipmi_power(bench):
    assert f"{bench.virtual.address}: off" in bench.freeipmi("ipmipower", "--stat")
    bench.freeipmi("ipmipower", "--on", "--wait-until-on")
    assert f"{bench.virtual.address}: on" in bench.freeipmi("ipmipower", "--stat")
    bench.freeipmi("ipmipower", "--off", "--wait-until-off")


def test_freeipmi_names_each_refusal(bench):
    assert "password invalid" in bench.freeipmi("ipmipower", "--stat", password="wrong", ok=False)
    assert "username invalid" in bench.freeipmi("ipmipower", "--stat", user="nobody", ok=False)
    assert "cipher suite id unavailable" in bench.freeipmi("ipmipower", "--stat", "-I", "1", ok=False)
    bench.bmc.max_sessions = 0
    assert "BMC busy" in bench.freeipmi("ipmipower", "--stat", "--session-timeout=3000", ok=False)
    bench.bmc.max_sessions = 4
    bench.bmc.users[2].privilege = 2
    assert "privilege level" in bench.freeipmi("ipmipower", "--stat", ok=False)


def test_freeipmi_identity_and_chassis(bench):
    assert "IPMI Version          : 2.0" in bench.freeipmi("bmc-info")
    assert "System Power                        : off" in bench.freeipmi("ipmi-chassis", "--get-chassis-status")
    bench.freeipmi("ipmi-chassis", "--chassis-control=power-up")
    assert bench.chassis.on
    bench.freeipmi("ipmi-config", "--category=chassis", "--commit", "-e", "Chassis_Boot_Flags:Boot_Device=PXE")
    assert bench.bmc.boot.values[5][1] >> 2 == BootDevice.PXE


def test_freeipmi_sensors_fru_sel(bench, tmp_path):
    cache = f"--sdr-cache-directory={tmp_path}"
    assert "CPU Temp" in bench.freeipmi("ipmi-sensors", cache, "--quiet-cache")
    assert "SN42" in bench.freeipmi("ipmi-fru", cache, "--quiet-cache")
    bench.freeipmi("ipmipower", "--on")
    assert "Power Unit" in bench.freeipmi("ipmi-sel", cache, "--quiet-cache")


def test_pings(bench):
    assert "pong received" in bench.run("rmcpping", "-c", "1", bench.virtual.address)
    assert "response received" in bench.run("ipmiping", "-c", "1", bench.virtual.address)


PYGHMI = """
import sys
from pyghmi.ipmi.command import Command
c = Command(bmc=sys.argv[1], userid=b"admin", password=b"password")
assert c.get_power() == {"powerstate": "off"}
assert c.set_power("on", wait=10)["powerstate"] == "on"
c.set_bootdev("network", uefiboot=True)
assert c.get_bootdev() == {"bootdev": "network", "persistent": False, "uefimode": True}, c.get_bootdev()
c.set_bootdev("hd", persist=True)
assert c.get_bootdev() == {"bootdev": "hd", "persistent": True, "uefimode": False}, c.get_bootdev()
[(name, fru)] = list(c.get_inventory())
assert fru["Serial Number"] == "SN42" and fru["UUID"] == "4C4C4544-0033-4000-8000-000000000001", fru
assert {s.name for s in c.get_sensor_data()} >= {"CPU Temp", "Fan 1"}
assert len(list(c.get_event_log())) == 1
assert c.get_users()[2]["access"]["privilege_level"] == "administrator"
assert c.get_net_configuration()["mac_address"] == "02:00:00:00:00:01"
"""
PYGHMI_REFUSED = """
import sys
from pyghmi.ipmi.command import Command
try:
    Command(bmc=sys.argv[1], userid=sys.argv[2].encode(), password=b"wrong")
except Exception as exc:
    print(exc)
"""


def test_pyghmi(bench):
    # A process of its own: pyghmi keeps one loop and all sessions per process.
    bench.run(sys.executable, "-c", PYGHMI, bench.virtual.address)
    assert "Incorrect password" in bench.run(sys.executable, "-c", PYGHMI_REFUSED, bench.virtual.address, "admin")
    assert "Unauthorized name" in bench.run(sys.executable, "-c", PYGHMI_REFUSED, bench.virtual.address, "nobody")


def test_loss_and_latency_are_survived(bench):
    bench.virtual.faults.latency_s = 0.05
    assert "is off" in bench.ipmitool("power", "status")
    bench.virtual.faults.latency_s, bench.virtual.faults.loss = 0.0, 0.2
    login = ("-h", bench.virtual.address, "-u", "admin", "-p", "password", "-D", "LAN_2_0")
    done = [bench.run("ipmipower", *login, "--retransmission-timeout=100", "--stat") for _ in range(3)]
    assert all(": off" in line for line in done)


def test_bmc_reset_forgets_sessions_and_is_deaf_for_a_while(bench, monkeypatch):
    monkeypatch.setattr("baremetal.lab.bmc._RESET_SILENCE_S", 60.0)  # ipmitool takes seconds to say goodbye
    bench.ipmitool("mc", "reset", "cold")
    assert not bench.virtual.server.sessions
    login = ("-I", "lanplus", "-H", bench.virtual.address, "-U", "admin", "-P", "password", "-N", "1", "-R", "1")
    bench.run("ipmitool", *login, "mc", "info", ok=False)
