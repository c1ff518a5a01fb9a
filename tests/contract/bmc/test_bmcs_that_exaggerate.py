"""FRU, sensors and logs larger than anybody's, names that are no text, another machine behind the same address."""

import contextlib

import pytest

from baremetal.bmc import sdr as readers
from baremetal.bmc.careful import Careful
from baremetal.bmc.drivers import driver as make
from baremetal.bmc.url import BmcUrl
from baremetal.lab.bmc import Fleet, VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.wire.ipmi import fru, sdr
from baremetal.wire.ipmi.bmc import Identity


@contextlib.asynccontextmanager
async def talking_to(**options):
    """(the virtual BMC, a driver that talks to it)"""
    bmc = VirtualBmc(diskless_bmc(MemoryChassis(on=True), **options), "127.0.0.1", 0)
    async with Fleet([bmc]):
        driver = Careful(make(BmcUrl.parse(f"ipmi://admin@127.0.0.1:{bmc.port}?timeout_s=5"), "password"), "big")
        yield bmc, driver
        await driver.close()


async def test_a_fru_of_60_kib_is_read_as_far_as_its_areas_go():
    whole = fru.build(vendor="Big", product="Box", serial="B1")
    async with talking_to(fru=bytearray(whole.ljust(60_000, b"\xff"))) as (bmc, driver):
        who = await driver.identify()
        assert (who.vendor, who.serial) == ("Big", "B1")
        assert bmc.datagrams < 60


async def test_a_fru_of_noise_is_none():
    async with talking_to(fru=bytearray(b"\x01\xff\xff\xff\xff\xff\x00\x02" + b"\xee" * 60_000)) as (_, driver):
        assert (await driver.identify()).serial is None


async def test_a_repository_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr(readers, "MOST_RECORDS", 100)  # 2048 in truth, which would take seconds
    record = sdr.SENSORS[0].record(1)
    async with talking_to(sdrs=[record] * 300, sensors=sdr.SENSORS) as (_, driver):
        found = await driver.sensors()
    assert 0 < len(found) <= 100


async def test_a_long_log_is_read_whole_and_then_by_its_end():
    async with talking_to() as (bmc, driver):
        bmc.bmc.sel.capacity = 400
        for number in range(400):
            bmc.bmc.sel.event(0x08, 3, number % 3, 1_790_000_000 + number)
        records = await driver.events()
        assert len(records) == 400
        before = bmc.datagrams
        assert await driver.events(records[-1].id) == []
        assert bmc.datagrams - before < 10


NAMES = [b"\xff\xfe\xfd caf\xe9", b"\x00\x01\x02", "naïve ☃".encode(), b"A" * 63]


@pytest.mark.parametrize("name", NAMES)
async def test_names_that_are_no_text(name):
    text = name.decode("latin-1")
    async with talking_to(fru=bytearray(fru.build(vendor=text, product=text, serial=text))) as (_, driver):
        who = await driver.identify()
        assert who.vendor is None or isinstance(who.vendor.encode("utf-8", "surrogateescape"), bytes)


async def test_another_machine_behind_the_same_address_is_seen_at_once():
    import uuid

    async with talking_to() as (bmc, driver):
        first = await driver.identify()
        bmc.bmc.identity = Identity(name="other", uuid=uuid.UUID(int=0x1234 << 64 | 0x77))
        bmc.server.drop_all()
        assert (await driver.identify()).uuid != first.uuid
