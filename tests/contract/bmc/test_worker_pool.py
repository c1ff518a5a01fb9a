"""Workers may hang, die and be replaced; the service goes on, and every call ends."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from baremetal.bmc import pool as pools
from baremetal.bmc import supervise
from baremetal.bmc import worker as workers
from baremetal.bmc.base import BmcAuth, BmcError, BmcTimeout, BmcUnreachable, BmcUnsupported, Cap, Power, PowerOp
from baremetal.bmc.careful import Care
from baremetal.bmc.pool import BmcPool
from baremetal.lab.bmc import VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.secrets import Secret
from baremetal.wire.ipmi.users import one_admin

ONCE = Care(reads=1, confirm_s=20.0, trip=100)


@contextlib.asynccontextmanager
async def rack(count=1):
    bmcs = [
        VirtualBmc(diskless_bmc(MemoryChassis(), users=one_admin("admin", "right")), "127.0.0.1", 0)
        for _ in range(count)
    ]
    for bmc in bmcs:
        await bmc.start()
    try:
        yield bmcs
    finally:
        for bmc in bmcs:
            bmc.close()


def url(bmc, more="", timeout_s=10):
    return f"ipmi://admin@127.0.0.1:{bmc.port}?timeout_s={timeout_s}{more}"


async def until(test):
    """Wait for it, a minute at most."""
    async with asyncio.timeout(60):
        while not test():  # noqa: ASYNC110 (plain conditions, no event to wait for)
            await asyncio.sleep(0.01)


def process(pool):
    return pool._slots[0].process


async def test_power_identity_and_errors_come_through():
    async with rack() as (bmc,), BmcPool(care=ONCE) as pool:
        driver = pool.driver(url(bmc), Secret("right"))
        await driver.set_power(PowerOp.ON)
        assert await driver.power() is Power.ON
        assert (await driver.identify()).cipher == 17
        with pytest.raises(BmcAuth) as caught:
            await pool.driver(url(bmc), Secret("wrong")).identify()
        assert caught.value.cause == "password"


async def test_no_worker_before_the_first_call():
    async with rack() as (bmc,), BmcPool() as pool:
        pool.driver(url(bmc), Secret("right"))
        assert process(pool) is None


async def test_sessions_stay_warm_between_calls():
    async with rack() as (bmc,), BmcPool(care=ONCE) as pool:
        driver = pool.driver(url(bmc), Secret("right"))
        await driver.power()
        logged_in, before = set(bmc.server.sessions), bmc.datagrams
        await driver.power()
        assert set(bmc.server.sessions) == logged_in
        assert bmc.datagrams - before < 4, "one question (asked again on a busy machine), no login"


async def test_sessions_are_given_back_at_the_end(monkeypatch):
    monkeypatch.setattr(supervise, "LOGOUT_S", 60.0)
    async with rack() as (bmc,):
        async with BmcPool(care=ONCE) as pool:
            await pool.driver(url(bmc), Secret("right")).power()
            assert len(bmc.server.sessions) == 1
        assert not bmc.server.sessions


async def test_a_worker_keeps_wanted_sessions_alive_and_gives_back_the_others(monkeypatch):
    for name, seconds in (("ALIVE_S", 0.05), ("IDLE_S", 600.0), ("SWEEP_S", 0.02)):
        monkeypatch.setattr(workers, name, seconds)
    async with rack() as (bmc,):
        worker = workers.Worker(asyncio.StreamReader(), None)
        message = {"url": url(bmc), "password": "right", "op": "power", "args": [], "kwargs": {}, "deadline_s": 30.0}
        assert await worker._answer(message) is Power.OFF
        before = bmc.datagrams
        sweeper = asyncio.create_task(worker._sweep())
        await until(lambda: bmc.datagrams > before)
        assert bmc.server.sessions
        monkeypatch.setattr(workers, "IDLE_S", 0.0)
        await until(lambda: not bmc.server.sessions and not worker.drivers)
        sweeper.cancel()


async def test_a_killed_worker_is_replaced_and_reads_are_asked_again():
    async with rack() as (bmc,), BmcPool(care=ONCE) as pool:
        driver = pool.driver(url(bmc), Secret("right"))
        await driver.power()
        bmc.faults.latency_s, before = 5.0, bmc.datagrams
        call = asyncio.create_task(driver.power())
        await until(lambda: bmc.datagrams > before)
        os.kill(process(pool).child.pid, signal.SIGKILL)
        bmc.faults.latency_s = 0.0
        assert await call is Power.OFF
        assert pool.restarts == 1


async def test_a_write_under_a_killed_worker_is_not_repeated():
    async with rack() as (bmc,), BmcPool(care=ONCE) as pool:
        driver = pool.driver(url(bmc), Secret("right"))
        await driver.power()
        bmc.faults.latency_s, before = 5.0, bmc.datagrams
        call = asyncio.create_task(driver.set_power(PowerOp.CYCLE))
        await until(lambda: bmc.datagrams > before)
        os.kill(process(pool).child.pid, signal.SIGKILL)
        with pytest.raises(BmcTimeout, match="replaced"):
            await call


async def test_a_stopped_worker_is_killed_after_its_deadline(monkeypatch):
    async with rack(2) as (first, second), BmcPool(care=ONCE) as pool:
        await pool.driver(url(first), Secret("right")).power()
        with monkeypatch.context() as impatient:
            for module, name in ((pools, "DEFAULT_DEADLINE_S"), (pools, "GRACE_S"), (supervise, "PING_S")):
                impatient.setattr(module, name, 0.3)
            os.kill(process(pool).child.pid, signal.SIGSTOP)
            with pytest.raises(BmcTimeout):
                await pool.driver(url(first), Secret("right")).power()
            await until(lambda: process(pool).gone)
        assert await pool.driver(url(second), Secret("right")).power() is Power.OFF


async def test_hung_bmcs_do_not_hold_up_the_others():
    async with rack(20) as bmcs, BmcPool(care=ONCE) as pool:
        for bmc in bmcs[:10]:
            bmc.bmc.quirks.hang_after_login = True
        began = time.monotonic()

        async def one(bmc):
            try:
                return await pool.driver(url(bmc, timeout_s=6), Secret("right")).power(), time.monotonic() - began
            except BmcError as exc:
                return exc.code, time.monotonic() - began

        answers = await asyncio.gather(*(one(bmc) for bmc in bmcs))
        assert [answer for answer, _ in answers[10:]] == [Power.OFF] * 10
        assert max(seconds for _, seconds in answers[10:]) < min(seconds for _, seconds in answers[:10])


async def test_pyghmi_runs_in_the_worker_too():
    async with rack() as (bmc,), BmcPool(care=ONCE) as pool:
        driver = pool.driver(url(bmc, "&driver=pyghmi"), Secret("right"))
        await driver.set_power(PowerOp.ON)
        assert await driver.power() is Power.ON


async def test_a_cancelled_call_leaves_the_bmc_usable():
    async with rack() as (bmc,), BmcPool(care=ONCE) as pool:
        driver = pool.driver(url(bmc), Secret("right"))
        bmc.faults.silent = True
        call = asyncio.create_task(driver.power())
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        bmc.faults.silent = False
        assert await driver.power() is Power.OFF


async def test_optional_capabilities_come_through_or_are_refused(redfish_server):
    async with redfish_server() as (_, port), rack() as (bmc,), BmcPool(care=ONCE) as pool:
        redfish = pool.driver(f"redfish+http://admin@127.0.0.1:{port}", Secret("right"))
        assert Cap.NICS in redfish.caps
        assert list(await redfish.optional("nics")) == ["52:54:00:aa:bb:01"]
        ipmi = pool.driver(url(bmc), Secret("right"))
        assert Cap.NICS not in ipmi.caps
        with pytest.raises(BmcUnsupported):
            await ipmi.optional("nics")
        with pytest.raises(ValueError):
            await ipmi.optional("close")


async def test_unreachable_through_the_pool():
    async with BmcPool(care=ONCE) as pool:
        with pytest.raises(BmcUnreachable) as caught:
            await pool.driver("ipmi://admin@127.0.0.1:1?timeout_s=1", Secret("x")).power()
        assert caught.value.cause == "no-rmcp"
