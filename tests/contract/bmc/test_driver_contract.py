"""One suite over every BMC driver: what the protocol promises, on a machine that keeps it and on one that does not."""

import contextlib

import pytest

from baremetal.bmc import fake
from baremetal.bmc.base import BmcAuth, BmcDriver, BmcLied, BmcTimeout, BmcUnreachable, BootDevice, Cap, Power, PowerOp
from baremetal.bmc.careful import Care, Careful
from baremetal.bmc.drivers import driver as make
from baremetal.bmc.url import BmcUrl
from baremetal.lab.bmc import VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.lab.redfish.face import Face
from baremetal.lab.redfish.service import Service
from baremetal.wire.ipmi.bmc import Identity
from baremetal.wire.ipmi.users import one_admin

UUID = "4c4c4544-0042-3510-8054-b4c04f4d3132"


class FakeBench:
    """The fake machine, with the knobs under the names all benches share."""

    url = "fake://contract"

    def __init__(self) -> None:
        fake.forget_all()
        self.machine = fake.machine("contract")
        self.machine.password = "right"
        self.uuid = self.machine.uuid

    @property
    def on(self) -> bool:
        return self.machine.powered

    def break_power(self) -> None:
        self.machine.faults.add("ignores-power")

    def break_boot(self) -> None:
        self.machine.faults.add("forgets-boot")

    def silence(self) -> None:
        self.machine.faults.add("silent")


class VirtualBench:
    """A virtual BMC of the lab, reached over loopback by one of the IPMI clients."""

    def __init__(self, bmc: VirtualBmc, client: str) -> None:
        self.bmc = bmc
        self.uuid = UUID
        self.url = f"ipmi://admin@127.0.0.1:{bmc.port}?driver={client}&timeout_s=2"

    @property
    def on(self) -> bool:
        return self.bmc.bmc.chassis.powered()

    def break_power(self) -> None:
        self.bmc.bmc.quirks.power_ignored = True

    def break_boot(self) -> None:
        self.bmc.bmc.quirks.boot_dropped = True

    def silence(self) -> None:
        self.bmc.faults.silent = True


class RedfishBench:
    """The Redfish peer of conftest.py."""

    uuid = UUID

    def __init__(self, peer, port: int) -> None:
        self.peer = peer
        self.url = f"redfish+http://admin@127.0.0.1:{port}?timeout_s=1"

    @property
    def on(self) -> bool:
        return self.peer.on

    def break_power(self) -> None:
        self.peer.ignores_power = True

    def break_boot(self) -> None:
        self.peer.drops_boot = True

    def silence(self) -> None:
        self.peer.silent = True


@contextlib.asynccontextmanager
async def virtual(client: str):
    import uuid

    identity = Identity(name="contract", serial="SN-CONTRACT", uuid=uuid.UUID(UUID))
    bmc = VirtualBmc(
        diskless_bmc(MemoryChassis(), identity=identity, users=one_admin("admin", "right")), "127.0.0.1", 0
    )
    await bmc.start()
    try:
        yield VirtualBench(bmc, client)
    finally:
        bmc.close()


class TwoFacedBench(VirtualBench):
    """The lab's machine by its Redfish face over TLS, or by whichever answers (`auto`)."""

    def __init__(self, bmc: VirtualBmc, scheme: str, port: int) -> None:
        super().__init__(bmc, "rmcp")
        self.url = f"redfish+https://admin@127.0.0.1:{port}?timeout_s=2"
        if scheme == "auto":
            self.url = f"auto://admin@127.0.0.1:{bmc.port}?redfish_port={port}&timeout_s=2"


@contextlib.asynccontextmanager
async def two_faced(scheme: str):
    async with virtual("rmcp") as bench:
        face = Face(bench.bmc.bmc, ("52:54:00:aa:bb:01",), firmware="bios")
        async with Service({"127.0.0.1": (face, bench.bmc)}, port=0) as service:
            yield TwoFacedBench(bench.bmc, scheme, service.port)


@pytest.fixture(params=["fake", "rmcp", "pyghmi", "redfish", "redfish-lab", "auto"])
async def bench(request, redfish_server):
    if request.param in ("redfish-lab", "auto"):
        async with two_faced(request.param) as found:
            yield found
        return
    if request.param == "redfish":
        async with redfish_server() as (peer, port):
            yield RedfishBench(peer, port)
        return
    if request.param == "fake":
        yield FakeBench()
        fake.forget_all()
        return
    async with virtual(request.param) as found:
        yield found


@pytest.fixture
async def bmc(bench):
    inner = make(BmcUrl.parse(bench.url), "right")
    driver = Careful(inner, "contract", Care(reads=1, confirm_s=0.3))
    yield driver
    await driver.close()


async def test_is_a_driver(bmc):
    assert isinstance(bmc, BmcDriver)
    assert {Cap.POWER, Cap.BOOT} <= bmc.caps


async def test_says_who_it_is(bench, bmc):
    who = await bmc.identify()
    assert who.uuid == bench.uuid
    assert who.serial
    assert who.vendor


async def test_power_goes_on_and_off_and_both_may_be_said_twice(bench, bmc):
    assert await bmc.power() is Power.OFF
    for op, state in (
        (PowerOp.ON, Power.ON),
        (PowerOp.ON, Power.ON),
        (PowerOp.OFF, Power.OFF),
        (PowerOp.OFF, Power.OFF),
    ):
        await bmc.set_power(op)
        assert await bmc.power() is state
        assert bench.on is (state is Power.ON)


@pytest.mark.parametrize("uefi", [False, True])
@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("device", [BootDevice.PXE, BootDevice.DISK, BootDevice.CDROM, BootDevice.BIOS])
async def test_boot_device_reads_back_as_it_was_set(bmc, device, once, uefi):
    plan = await bmc.set_boot(device, once=once, uefi=uefi)
    assert (plan.device, plan.once, plan.uefi) == (device, once, uefi)
    assert await bmc.get_boot() == plan


async def test_boot_mode_stays_when_not_named(bmc):
    await bmc.set_boot(BootDevice.PXE, uefi=True)
    assert (await bmc.set_boot(BootDevice.DISK)).uefi is True


async def test_one_shot_boot_is_consumed_by_a_start_and_a_persistent_one_is_not(bmc):
    await bmc.set_boot(BootDevice.PXE, once=True, uefi=False)
    await bmc.set_power(PowerOp.ON)
    assert (await bmc.get_boot()).device is BootDevice.NONE
    await bmc.set_power(PowerOp.OFF)
    await bmc.set_boot(BootDevice.DISK, once=False, uefi=False)
    await bmc.set_power(PowerOp.ON)
    assert (await bmc.get_boot()).device is BootDevice.DISK


async def test_override_can_be_taken_back(bmc):
    await bmc.set_boot(BootDevice.PXE, once=False)
    assert (await bmc.set_boot(BootDevice.NONE)).device is BootDevice.NONE


async def test_a_lie_about_power_is_found(bench, bmc):
    bench.break_power()
    with pytest.raises(BmcLied):
        await bmc.set_power(PowerOp.ON)


async def test_a_lie_about_the_boot_device_is_found(bench, bmc):
    bench.break_boot()
    with pytest.raises(BmcLied):
        await bmc.set_boot(BootDevice.PXE)


async def test_wrong_password_is_told_as_such(bench):
    wrong = make(BmcUrl.parse(bench.url), "wrong")
    with pytest.raises(BmcAuth) as caught:
        await wrong.identify()
    assert caught.value.cause == "password"
    assert "wrong" not in str(caught.value)
    await wrong.close()


async def test_silence_is_told_as_such(bench, bmc):
    bench.silence()
    # Redfish is TCP: a connection that is taken and then silent is a timeout, not an absence.
    with pytest.raises((BmcUnreachable, BmcTimeout)) as caught:
        await bmc.power()
    assert caught.value.cause == "silent" or isinstance(bench, (RedfishBench, TwoFacedBench))


async def test_sensors_have_units_and_states(bmc):
    readings = await bmc.sensors()
    assert readings
    assert any(reading.unit == "°C" for reading in readings)
    assert {reading.state for reading in readings} <= {"ok", "warning", "critical", "absent", "unknown"}


async def test_users_have_a_privilege(bmc):
    assert [(user.name, user.privilege) for user in await bmc.users() if user.name == "admin"] == [
        ("admin", "administrator")
    ]


async def test_identify_light(bmc):
    await bmc.locate(True, 15)
    await bmc.locate(False)


async def test_event_log_can_be_read_and_cleared(bmc):
    await bmc.events()
    await bmc.clear_events()
    assert len(await bmc.events()) <= 1  # some note the clearing itself
