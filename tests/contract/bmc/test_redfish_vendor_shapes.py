"""Services in the shape of four vendors (tests/data/redfish): what the driver reads of them, and what it sends."""

import contextlib
import json
from pathlib import Path

import pytest
from aiohttp import web

from baremetal.bmc.audit import audit
from baremetal.bmc.base import BmcUnsupported, BootDevice, Power, PowerOp
from baremetal.bmc.redfish import RedfishDriver
from baremetal.bmc.url import BmcUrl

DATA = Path(__file__).parents[2] / "data" / "redfish"
VENDORS = ["dell", "hpe", "lenovo", "supermicro"]


class Shape:
    """One service; `sent` is what was written to it. Boot changes are kept, resets too."""

    def __init__(self, vendor):
        self.docs = json.loads((DATA / f"{vendor}.json").read_text())["documents"]
        self.sent = []

    async def answer(self, request):
        path = "/" + request.raw_path.strip("/").partition("?")[0]
        if request.method == "GET":
            doc = self.docs.get(path)
            missing = {"error": {"code": "Base.1.0.ResourceMissingAtURI", "message": path}}
            return web.json_response(
                {"@odata.id": path, **doc} if doc is not None else missing, status=200 if doc is not None else 404
            )
        body = await request.json()
        if path.endswith("SessionService/Sessions"):
            return web.json_response({}, status=201, headers={"X-Auth-Token": "t", "Location": path + "/1"})
        self.sent.append((request.method, path, body))
        if request.method == "PATCH" and "Boot" in body:
            self.docs[path]["Boot"] |= body["Boot"]
        if path.endswith("ComputerSystem.Reset"):
            system = path.rpartition("/Actions")[0]
            self.docs[system]["PowerState"] = "Off" if "Off" in body["ResetType"] else "On"
        return web.Response(status=204)


@contextlib.asynccontextmanager
async def service(vendor):
    shape = Shape(vendor)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", shape.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    bmc = RedfishDriver(BmcUrl.parse(f"redfish+http://admin@127.0.0.1:{runner.addresses[0][1]}?timeout_s=3"), "pw")
    try:
        yield shape, bmc
    finally:
        await bmc.close()
        await runner.cleanup()


WHO = {  # vendor: (serial, firmware, BMC's MAC, NICs)
    "dell": ("CNIVC0099J0099", "4.22.00.53", "d0:94:66:00:11:22", ("d0:94:66:00:aa:01", "d0:94:66:00:aa:02")),
    "hpe": ("CZJ0000001", "iLO 5 v2.44", "b4:7a:f1:00:00:fe", ("b4:7a:f1:00:00:01",)),
    "lenovo": ("J300ABCD", "CDI340M 2.60 2019-11-22", "7e:d3:0a:0b:0c:fe", ("7e:d3:0a:0b:0c:01",)),
    "supermicro": (None, "01.63", "ac:1f:6b:00:00:02", ()),
}


@pytest.mark.parametrize("vendor", VENDORS)
async def test_who_it_is(vendor):
    async with service(vendor) as (_, bmc):
        who = await bmc.identify()
    assert (who.serial, who.firmware, who.bmc_mac, who.macs) == WHO[vendor]


BOOT = {  # vendor: what is sent to boot the network once, for a machine that is in UEFI mode already (or not)
    "dell": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"},
    "hpe": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"},
    "lenovo": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"},
    "supermicro": {
        "BootSourceOverrideTarget": "Pxe",
        "BootSourceOverrideEnabled": "Once",
        "BootSourceOverrideMode": "UEFI",
    },
}


@pytest.mark.parametrize("vendor", VENDORS)
async def test_power_and_boot(vendor):
    async with service(vendor) as (shape, bmc):
        plan = await bmc.set_boot(BootDevice.PXE, uefi=True)
        assert (plan.device, plan.once) == (BootDevice.PXE, True)
        assert shape.sent[-1][2] == {"Boot": BOOT[vendor]}
        await bmc.set_power(PowerOp.OFF)
        assert await bmc.power() is Power.OFF
        await bmc.set_power(PowerOp.ON)
        assert await bmc.power() is Power.ON
        assert shape.sent[-1][2] == {"ResetType": "On"}


async def test_a_lasting_override_becomes_one_shot_where_the_schema_has_no_other():
    async with service("lenovo") as (_, bmc):
        assert (await bmc.set_boot(BootDevice.DISK, once=False)).once


READINGS = {  # vendor: {sensor: (value, unit, state)}
    "dell": {"CPU1 Temp": (47.0, "°C", "ok"), "System Board Fan1A": (6840.0, "RPM", "ok")},
    "hpe": {"05-P1 DIMM 7-12": (0.0, "°C", "absent"), "Fan 1": (19.0, "%", "ok")},
    "lenovo": {"CPU 1 Temp": (38.0, "°C", "unknown"), "Fan 1 Front Tach": (None, "RPM", "warning")},
    "supermicro": {"CPU1 Temp": (44.0, "°C", "ok"), "P1-DIMMA1 Temp": (None, "°C", "absent")},
}


@pytest.mark.parametrize("vendor", VENDORS)
async def test_sensors(vendor):
    async with service(vendor) as (_, bmc):
        found = {one.name: (one.value, one.unit, one.state) for one in await bmc.sensors()}
    assert READINGS[vendor].items() <= found.items()


LOG = {
    "dell": ["Log cleared.", "The power input for power supply 2 is lost."],
    "hpe": ["Fan 3 failed"],
    "lenovo": ["Sensor Fan 2 has transitioned to critical"],
    "supermicro": [],
}


@pytest.mark.parametrize("vendor", VENDORS)
async def test_the_hardwares_log_and_no_other(vendor):
    async with service(vendor) as (_, bmc):
        assert [record.event for record in await bmc.events()] == LOG[vendor]


async def test_the_audit_of_an_old_one_names_services_and_firmware():
    async with service("dell") as (_, bmc):
        url = BmcUrl.parse("redfish+http://root@10.0.0.1")
        found = await audit(url, bmc, password="calvin")
    checks = {one["check"] for one in found["findings"]}
    assert {"factory-password", "plain-http", "no-ntp", "http-enabled", "snmp-enabled", "firmware-old"} <= checks
    assert "calvin" not in str(found)


async def test_firmware_is_listed_and_updated_by_url():
    async with service("dell") as (shape, bmc):
        assert await bmc.firmware() == {"Integrated Dell Remote Access Controller": "4.22.00.53"}
        await bmc.update_firmware("http://10.0.0.9/idrac.d9")
        assert shape.sent[-1][2] == {"ImageURI": "http://10.0.0.9/idrac.d9", "TransferProtocol": "HTTP"}


async def test_no_update_service_is_said():
    async with service("supermicro") as (_, bmc):
        assert await bmc.firmware() == {}
        with pytest.raises(BmcUnsupported, match="update service"):
            await bmc.update_firmware("http://10.0.0.9/x")
