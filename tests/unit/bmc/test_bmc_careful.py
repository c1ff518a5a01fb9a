"""The care above every driver, shown on the fake machine."""

import asyncio

import pytest

from baremetal.bmc import fake
from baremetal.bmc.base import BmcAuth, BmcBusy, BmcLied, BmcTimeout, BmcUnreachable, BootDevice, Power, PowerOp
from baremetal.bmc.careful import Care
from baremetal.bmc.pool import BmcPool
from baremetal.secrets import Secret

QUICK = Care(reads=2, pause_s=0.001, confirm_s=0.05, trip=3, rest_s=60)


@pytest.fixture(autouse=True)
def bench():
    fake.forget_all()
    yield
    fake.forget_all()


async def bmc(name="m1", password="x", care=QUICK, **kw):
    return BmcPool().driver(f"fake://{name}", Secret(password), care=care, **kw)


async def test_power_is_confirmed_by_looking():
    driver = await bmc(care=Care(confirm_s=5))
    fake.machine("m1").power_delay_s = 0.06
    await driver.set_power(PowerOp.ON)
    assert await driver.power() is Power.ON


async def test_power_that_is_acknowledged_but_not_done_is_a_lie():
    driver = await bmc()
    fake.machine("m1").faults.add("ignores-power")
    with pytest.raises(BmcLied, match="accepted but not done"):
        await driver.set_power(PowerOp.ON)


async def test_boot_device_that_reads_back_differently_is_a_lie():
    driver = await bmc()
    fake.machine("m1").faults.add("forgets-boot")
    with pytest.raises(BmcLied, match="accepted but not set"):
        await driver.set_boot(BootDevice.PXE)


async def test_one_shot_boot_is_consumed_by_the_start():
    driver = await bmc()
    await driver.set_boot(BootDevice.PXE, once=True, uefi=True)
    await driver.set_power(PowerOp.ON)
    assert [plan.device for plan in fake.machine("m1").starts] == [BootDevice.PXE]
    assert (await driver.get_boot()).device is BootDevice.NONE


async def test_refused_credentials_are_not_tried_again():
    driver = await bmc(password="wrong")
    it = fake.machine("m1")
    it.password = "right"
    for _ in range(5):
        with pytest.raises(BmcAuth):
            await driver.power()
    assert it.commands == 1


async def test_corrected_credentials_are_tried_at_once():
    async with BmcPool(care=QUICK) as pool:
        fake.machine("m1").password = "right"
        with pytest.raises(BmcAuth):
            await pool.driver("fake://m1", Secret("wrong")).power()
        assert await pool.driver("fake://m1", Secret("right")).power() is Power.OFF


async def test_a_silent_bmc_is_left_alone_after_three_silences():
    driver = await bmc()
    it = fake.machine("m1")
    it.faults.add("silent")
    for _ in range(4):
        with pytest.raises(BmcUnreachable):
            await driver.power()
    assert it.commands == 3
    with pytest.raises(BmcUnreachable, match="silent, 3 times in a row; left alone"):
        await driver.power()


async def test_a_busy_bmc_is_asked_again():
    seen = []
    driver = await bmc(on_attempt=seen.append)
    it = fake.machine("m1")
    it.faults.add("busy")
    with pytest.raises(BmcBusy):
        await driver.power()
    assert [attempt.outcome for attempt in seen] == ["bmc-busy", "bmc-busy"]


async def test_one_command_in_flight_per_bmc():
    under_way, most = 0, 0
    async with BmcPool() as pool:
        drivers = [pool.driver("fake://m1", Secret("a")), pool.driver("fake://m1", Secret("b"))]
        lock = pool.lock("fake://m1")

        async def watch():
            nonlocal under_way, most
            while True:
                most = max(most, lock.locked())
                await asyncio.sleep(0)

        fake.machine("m1").latency_s = 0.005
        watcher = asyncio.create_task(watch())
        await asyncio.gather(*(driver.power() for driver in drivers * 3))
        watcher.cancel()
    assert fake.machine("m1").commands == 6
    assert most == 1


async def test_a_hung_conversation_ends_at_its_deadline(monkeypatch):
    monkeypatch.setattr("baremetal.bmc.pool.DEFAULT_DEADLINE_S", 0.02)
    driver = await bmc(care=Care(reads=1))
    fake.machine("m1").faults.add("hung")
    with pytest.raises(BmcTimeout):
        await driver.power()
