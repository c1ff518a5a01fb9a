"""Every cause of failure keeps its own name, over both IPMI clients; and the wire's faults are survived."""

import asyncio
import contextlib
import itertools
import random

import pytest

from baremetal.bmc.base import (
    BmcAuth,
    BmcBusy,
    BmcCipher,
    BmcError,
    BmcPrivilege,
    BmcRefused,
    BmcTimeout,
    BmcUnreachable,
    Power,
    PowerOp,
)
from baremetal.bmc.drivers import driver as make
from baremetal.bmc.url import BmcUrl
from baremetal.lab.bmc import VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.wire.ipmi.codes import Privilege
from baremetal.wire.ipmi.users import User, Users, one_admin

CLIENTS = ["rmcp", "pyghmi"]


def people(*found):
    """Accounts (name, password, privilege) from slot 2 on."""
    users = Users()
    for slot, (name, password, privilege) in enumerate(found, 1):
        users.slots[slot] = User(name, password, privilege, True)
    return users


@contextlib.asynccontextmanager
async def virtual(**options):
    options.setdefault("users", one_admin("admin", "right"))
    bmc = VirtualBmc(diskless_bmc(MemoryChassis(on=True), **options), "127.0.0.1", 0)
    await bmc.start()
    try:
        yield bmc
    finally:
        bmc.close()


def dial(bmc, client, *, user="admin", password="right", more="", timeout_s=3, kg=None):
    url = f"ipmi://{user}@127.0.0.1:{bmc.port}?driver={client}&timeout_s={timeout_s}{more}"
    return make(BmcUrl.parse(url), password, kg)


@contextlib.asynccontextmanager
async def closing(driver):
    try:
        yield driver
    finally:
        await driver.close()


async def fails(driver, error, cause=None):
    async with closing(driver):
        with pytest.raises(error) as caught:
            await driver.power()
    if cause:
        assert caught.value.cause == cause
    assert "right" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("client", CLIENTS)
class TestCauses:
    async def test_unknown_user(self, client):
        async with virtual() as bmc:
            await fails(dial(bmc, client, user="nobody"), BmcAuth, "user")

    async def test_wrong_password(self, client):
        async with virtual() as bmc:
            await fails(dial(bmc, client, password="wrong"), BmcAuth, "password")

    async def test_wrong_kg(self, client):
        async with virtual(kg=b"two-key") as bmc:
            await fails(dial(bmc, client, kg="another"), BmcAuth, "kg")

    async def test_right_kg(self, client):
        async with virtual(kg=b"two-key") as bmc, closing(dial(bmc, client, kg="two-key")) as driver:
            assert await driver.power() is Power.ON

    async def test_only_a_suite_we_do_not_use(self, client):
        async with virtual(suites=(0, 1, 2)) as bmc:
            await fails(dial(bmc, client), BmcCipher)

    @pytest.mark.parametrize("suite", [3, 17])
    async def test_each_suite_alone(self, client, suite):
        async with virtual(suites=(suite,)) as bmc, closing(dial(bmc, client)) as driver:
            assert (await driver.identify()).cipher == suite

    async def test_suite_17_first(self, client):
        async with virtual() as bmc, closing(dial(bmc, client)) as driver:
            assert (await driver.identify()).cipher == 17

    async def test_suite_3_on_request(self, client):
        async with virtual() as bmc, closing(dial(bmc, client, more="&cipher=3")) as driver:
            assert (await driver.identify()).cipher == 3

    async def test_no_free_session(self, client):
        async with virtual(max_sessions=0) as bmc:
            await fails(dial(bmc, client), BmcBusy, "sessions")

    async def test_nothing_listens(self, client):
        async with virtual() as bmc:
            pass
        # pyghmi's unconnected socket cannot see the ICMP answer.
        await fails(dial(bmc, client, timeout_s=1), BmcUnreachable, "no-rmcp" if client == "rmcp" else "silent")

    async def test_silent_after_login(self, client):
        async with virtual() as bmc:
            bmc.bmc.quirks.hang_after_login = True
            await fails(dial(bmc, client, timeout_s=1), BmcError)

    async def test_a_reading_account_reads_and_may_not_press(self, client):
        users = people((b"admin", b"right", Privilege.ADMIN), (b"viewer", b"look", Privilege.USER))
        async with (
            virtual(users=users) as bmc,
            closing(dial(bmc, client, user="viewer", password="look", more="&privilege=user")) as driver,
        ):
            assert await driver.power() is Power.ON
            with pytest.raises(BmcPrivilege):
                await driver.set_power(PowerOp.OFF)

    async def test_cycle_of_a_machine_that_is_off(self, client):
        async with virtual() as bmc, closing(dial(bmc, client)) as driver:
            await driver.set_power(PowerOp.OFF)
            with pytest.raises(BmcRefused) as caught:
                await driver.set_power(PowerOp.CYCLE)
            assert caught.value.cause == "state"

    @pytest.mark.parametrize(
        "password", ["", "x", "0123456789abcdef", "0123456789abcdef0123", "\udcff\udc80\x01", "pässwörd"]
    )
    async def test_passwords_of_any_bytes(self, client, password):
        raw = password.encode("utf-8", "surrogateescape")
        users = people((b"admin", raw, Privilege.ADMIN))
        async with virtual(users=users) as bmc, closing(dial(bmc, client, password=password)) as driver:
            assert await driver.power() is Power.ON

    async def test_a_bmc_that_forgot_the_session(self, client):
        async with virtual() as bmc, closing(dial(bmc, client, timeout_s=10)) as driver:
            await driver.power()
            bmc.server.drop_all()
            assert await driver.power() is Power.ON

    async def test_loss_and_latency(self, client):
        async with virtual() as bmc:
            bmc.faults.latency_s = 0.01
            if client == "rmcp":
                bmc.faults.loss = 0.1
            else:
                lose(bmc, 1, 6)  # pyghmi gives up when several are lost in a row, and chance may do that
            async with closing(dial(bmc, client, timeout_s=20)) as driver:
                assert await driver.power() is Power.ON


def lose(bmc, *numbers):
    """Lose the answers with these numbers, counted from 1."""
    plain, count = bmc._send, itertools.count(1)

    def lossy(data, addr):
        if next(count) not in numbers:
            plain(data, addr)

    bmc._send = lossy


def busy_at(bmc, pattern):
    """Be busy (+) or not (-) at one command after the other. Chance alone is busy six times in a row, once."""
    plain, dice = bmc.server._random, itertools.cycle(b"\0" if sign == "+" else b"\xff" for sign in pattern)
    bmc.server._random = lambda count: next(dice) if count == 1 else plain(count)
    bmc.bmc.quirks.busy_rate = 0.5


class TestOurs:
    async def test_0d_for_a_lower_role_steps_down_when_asked(self):
        users = people((b"op", b"right", Privilege.OPERATOR))
        async with virtual(users=users) as bmc, closing(dial(bmc, "rmcp", user="op")) as driver:
            assert await driver.power() is Power.ON

    async def test_tag_zero_of_openbmc(self):
        async with virtual() as bmc:
            bmc.bmc.quirks.rakp_tag_zero = True
            async with closing(dial(bmc, "rmcp")) as driver:
                assert await driver.power() is Power.ON

    async def test_busy_nodes_are_asked_again(self):
        async with virtual() as bmc:
            busy_at(bmc, "-+--+++---")
            async with closing(dial(bmc, "rmcp", timeout_s=10)) as driver:
                for _ in range(10):
                    assert await driver.power() is Power.ON

    async def test_a_bmc_busy_at_every_log_in_is_asked_again(self):
        async with virtual() as bmc, closing(dial(bmc, "rmcp", timeout_s=20)) as driver:
            busy_at(bmc, "+-++--++++-")
            for _ in range(3):
                bmc.server.drop_all()
                assert await driver.power() is Power.ON

    async def test_a_bmc_that_stays_busy_is_called_busy(self):
        async with virtual() as bmc, closing(dial(bmc, "rmcp", timeout_s=3)) as driver:
            bmc.bmc.quirks.busy_rate = 1.0
            with pytest.raises(BmcBusy):
                await driver.power()

    async def test_a_cipher_suite_that_falls_is_refused(self):
        async with virtual() as bmc, closing(dial(bmc, "rmcp", timeout_s=10)) as driver:
            await driver.power()
            bmc.bmc.suites = (3,)
            bmc.server.drop_all()
            with pytest.raises(BmcCipher) as caught:
                await driver.power()
            assert caught.value.cause == "downgrade"

    async def test_sessions_are_given_back(self):
        async with virtual(max_sessions=1) as bmc:
            for _ in range(5):
                async with closing(dial(bmc, "rmcp")) as driver:
                    await driver.power()
            assert not bmc.server.sessions

    async def test_slow_bmc_is_waited_for(self):
        async with virtual() as bmc:
            bmc.faults.latency_s = 0.6
            async with closing(dial(bmc, "rmcp", timeout_s=20)) as driver:
                assert await driver.power() is Power.ON

    @pytest.mark.parametrize("at", range(1, 8))
    async def test_an_answer_lost_at_every_message(self, at):
        async with virtual() as bmc:
            lose(bmc, at)
            async with closing(dial(bmc, "rmcp", timeout_s=10)) as driver:
                assert await driver.power() is Power.ON

    async def test_fifty_at_once(self):
        async with virtual(max_sessions=60) as bmc:
            drivers = [dial(bmc, "rmcp") for _ in range(50)]
            assert set(await asyncio.gather(*(driver.power() for driver in drivers))) == {Power.ON}
            await asyncio.gather(*(driver.close() for driver in drivers))

    async def test_half_dead_bmc_ends_at_its_deadline(self):
        async with virtual() as bmc, closing(dial(bmc, "rmcp", timeout_s=1)) as driver:
            await driver.power()
            bmc.faults.silent = True
            with pytest.raises((BmcTimeout, BmcUnreachable)):
                await driver.power()

    async def test_garbage_before_every_answer(self):
        async with virtual() as bmc:
            plain, noise = bmc._send, random.Random(7)

            def noisy(data, addr):
                broken = bytearray(data)
                broken[noise.randrange(len(broken))] ^= 1 << noise.randrange(8)
                for junk in (
                    b"",
                    noise.randbytes(noise.randrange(300)),
                    data[: noise.randrange(len(data))],
                    bytes(broken),
                ):
                    if junk != data:
                        plain(junk, addr)
                plain(data, addr)

            bmc._send = noisy
            for _ in range(20):
                # A flipped bit in an unsigned login message may be a refusal: told, and never "done".
                async with closing(dial(bmc, "rmcp", timeout_s=10)) as driver:
                    with contextlib.suppress(BmcError):
                        assert await driver.power() is Power.ON

    async def test_ipv6(self):
        bmc = VirtualBmc(diskless_bmc(MemoryChassis(on=True), users=one_admin("admin", "right")), "::1", 0)
        await bmc.start()
        async with closing(make(BmcUrl.parse(f"ipmi://admin@[::1]:{bmc.port}"), "right")) as driver:
            assert await driver.power() is Power.ON
        bmc.close()
