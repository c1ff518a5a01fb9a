"""The serial console, the fleet verbs, scan and audit over virtual BMCs."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys

import pytest

from baremetal.bmc import scan
from baremetal.bmc.audit import audit
from baremetal.bmc.base import BmcBusy, BmcError, BmcRefused, Power
from baremetal.bmc.careful import Care
from baremetal.bmc.console import open_console
from baremetal.bmc.drivers import driver as make
from baremetal.bmc.fleet import ask_all
from baremetal.bmc.hosts import expand
from baremetal.bmc.url import BmcUrl
from baremetal.lab.bmc import VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.secrets import Secret
from baremetal.wire.ipmi.users import one_admin

MAC = "52:54:00:aa:bb:01"


@contextlib.asynccontextmanager
async def rack(count=1, **options):
    """So many BMCs on one port, 127.31.0.1 and on."""
    bmcs = []
    port = 0
    for number in range(1, count + 1):
        bmc = diskless_bmc(MemoryChassis(on=True), users=one_admin("admin", "right"), **options)
        bmcs.append(VirtualBmc(bmc, f"127.31.0.{number}", port))
        await bmcs[-1].start()
        port = bmcs[-1].port
    try:
        yield bmcs, port
    finally:
        for bmc in bmcs:
            bmc.close()


def url(bmc):
    return BmcUrl.parse(f"ipmi://admin@{bmc.address}:{bmc.port}?timeout_s=3")


async def read_until(console, what, seconds=120.0):
    seen = b""
    async with asyncio.timeout(seconds):
        async for chunk in console:
            seen += chunk
            if what in seen:
                return seen
    return seen


class TestConsole:
    async def test_bytes_both_ways(self):
        async with rack() as ((bmc,), _):
            typed = bytearray()
            bmc.keyboard = typed.extend
            console = await open_console(url(bmc), Secret("right"))
            bmc.printed(b"login: ")
            assert await read_until(console, b"login: ") == b"login: "
            await console.write(b"root\r" * 100)
            for _ in range(5000):
                await asyncio.sleep(0.02)
                if len(typed) == 500:
                    break
            assert bytes(typed) == b"root\r" * 100
            await console.close()
            assert not bmc.server.sessions

    async def test_a_second_console_says_busy_and_may_take_over(self):
        async with rack() as ((bmc,), _):
            first = await open_console(url(bmc), Secret("right"))
            with pytest.raises(BmcBusy) as caught:
                await open_console(url(bmc), Secret("right"))
            assert caught.value.cause == "console"
            second = await open_console(url(bmc), Secret("right"), take=True)
            bmc.printed(b"hello")
            assert await read_until(second, b"hello") == b"hello"
            await second.close()
            await first.close()

    async def test_output_survives_loss(self):
        async with rack() as ((bmc,), _):
            console = await open_console(url(bmc), Secret("right"))
            bmc.faults.loss = 0.1
            text = b"".join(b"%04d\n" % number for number in range(200))
            for at in range(0, len(text), 50):
                bmc.printed(text[at : at + 50])
                await asyncio.sleep(0)
            assert await read_until(console, b"0199\n") == text
            bmc.faults.loss = 0.0
            await console.close()

    async def test_switched_off(self):
        async with rack() as ((bmc,), _):
            bmc.bmc.sol_enabled = False
            with pytest.raises(BmcRefused, match="switched off"):
                await open_console(url(bmc), Secret("right"))


class TestFleet:
    async def ask(self, words, port, question, password="right", **options):
        targets = expand(words, user="admin", options={"timeout_s": "2"})
        targets = [
            type(t)(t.host, BmcUrl.parse(f"ipmi://admin@{t.url.host}:{port}?timeout_s=2")) if t.url else t
            for t in targets
        ]
        return [verdict async for verdict in ask_all(targets, question, password=Secret(password), **options)]

    async def status(self, bmc):
        return {"power": (await bmc.power()).value}

    async def test_every_host_gets_one_verdict(self):
        async with rack(3) as (bmcs, port):
            bmcs[1].bmc.quirks.wrong_password = True
            verdicts = await self.ask(["127.31.0.1-4", "not a host!"], port, self.status, care=Care(reads=1))
        by_host = {verdict["host"]: verdict for verdict in verdicts}
        assert len(verdicts) == len(by_host) == 7
        assert by_host["127.31.0.1"]["power"] == "on"
        assert by_host["127.31.0.2"]["error"]["cause"] == "password"
        assert by_host["127.31.0.3"]["power"] == "on"
        assert by_host["127.31.0.4"]["error"]["code"] == "bmc-unreachable"
        assert by_host["host!"]["error"]["code"] == "usage"

    async def test_answers_come_as_they_complete(self):
        async with rack(2) as (bmcs, port):
            bmcs[0].faults.latency_s = 0.1
            verdicts = await self.ask(["127.31.0.1-2"], port, self.status)
        assert [verdict["host"] for verdict in verdicts] == ["127.31.0.2", "127.31.0.1"]

    async def test_a_failing_question_is_a_verdict_too(self):
        async def broken(bmc):
            raise KeyError("oops")

        async with rack() as (_, port):
            (verdict,) = await self.ask(["127.31.0.1"], port, broken)
        assert verdict["error"]["code"] == "bmc-error"

    async def test_sessions_are_given_back(self):
        async with rack(5) as (bmcs, port):
            await self.ask(["127.31.0.1-5"], port, self.status)
            assert not any(bmc.server.sessions for bmc in bmcs)


class TestScan:
    async def test_finds_ipmi_and_twins_without_logging_in(self):
        import uuid

        from baremetal.wire.ipmi.bmc import Identity

        async with rack(3, identity=Identity(uuid=uuid.UUID(int=7))) as (bmcs, port):
            bmcs[2].bmc.quirks.no_ping = True
            found = [one async for one in scan.scan([f"127.31.0.{n}" for n in range(1, 6)], port=port, redfish=False)]
            assert not any(bmc.server.sessions for bmc in bmcs)
        answered = {one.host: one for one in found if one.ipmi}
        assert set(answered) == {"127.31.0.1", "127.31.0.2", "127.31.0.3"}
        assert sorted(one.same_as or "" for one in answered.values()) == ["", *[next(iter(answered))] * 2]
        assert found[-1].to_json()["error"]["code"] == "bmc-unreachable"

    async def test_redfish_services_answer_a_multicast_search(self):
        class Service(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, peer):
                if b"urn:dmtf-org:service:redfish-rest:1" in data:
                    self.transport.sendto(b"garbage", peer)
                    self.transport.sendto(b"HTTP/1.1 200 OK\r\nST: urn:dmtf-org:service:redfish-rest:1\r\n\r\n", peer)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Service, ("127.31.0.9", 0))
        target = transport.get_extra_info("sockname")
        assert await scan.ssdp("127.0.0.1", wait_s=0.2, target=target) == ["127.31.0.9"]
        transport.close()


class TestAudit:
    async def test_findings_of_a_bad_bmc(self):
        async with rack(suites=(0, 3)) as ((bmc,), _):
            driver = make(url(bmc), "right")
            report = await audit(
                url(bmc), driver, factory=[("admin", "calvin"), ("admin", "right"), ("admin", "never")]
            )
            await driver.close()
        assert report["worst"] == "critical"
        assert {"cipher-0", "old-cipher", "factory-password", "rakp-hash"} <= {
            one["check"] for one in report["findings"]
        }
        assert "right" not in json.dumps(report)


def baremetal(*arguments, password="right"):
    environment = {**os.environ, "BAREMETAL_BMC_PASSWORD": password}
    return asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from baremetal.cli import main; main()",
        "bmc",
        *arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


class TestCommandLine:
    async def run(self, *arguments, **options):
        process = await baremetal(*arguments, **options)
        out, err = await process.communicate()
        return process.returncode, [json.loads(line) for line in out.decode().splitlines()], err.decode()

    async def test_status_on_and_the_yes(self):
        async with rack() as ((bmc,), port):
            host = f"127.31.0.1:{port}"
            assert await self.run("power", "status", "-H", host, "-u", "admin") == (
                0,
                [{"host": host, "power": "on"}],
                "",
            )
            code, out, err = await self.run("power", "off", "-H", host, "-u", "admin")
            assert (code, out) == (4, [])
            assert "1 machine" in err
            assert "--yes" in err
            assert bmc.bmc.chassis.powered()
            assert (await self.run("power", "off", "-H", host, "-u", "admin", "--yes"))[0] == 0
            assert not bmc.bmc.chassis.powered()

    async def test_a_wrong_password_is_a_verdict_and_never_shown(self):
        async with rack() as (_, port):
            code, (verdict,), err = await self.run("info", "-H", f"127.31.0.1:{port}", "-u", "admin", password="geheim")
        assert code == 1
        assert verdict["error"]["code"] == "bmc-auth"
        assert "geheim" not in json.dumps(verdict) + err

    async def test_info_names_twins(self):
        async with rack() as (_, port):
            hosts = f"ipmi://admin@127.31.0.1:{port},ipmi://admin@localhost:1"
            code, verdicts, _ = await self.run("info", "-H", hosts)
        assert code == 1
        assert {verdict["host"] for verdict in verdicts} == {f"127.31.0.1:{port}", "localhost:1"}


async def test_bare_power_is_one_datagram_each_way():
    async with rack() as ((bmc,), _):
        driver = make(url(bmc), "right")
        assert await driver.power() is Power.ON
        before = bmc.datagrams
        await driver.power()
        assert bmc.datagrams - before == 1
        with contextlib.suppress(BmcError):
            await driver.close()


@contextlib.asynccontextmanager
async def redfish_machine():
    """The lab's machine by its Redfish face."""
    from baremetal.lab.redfish.face import Face
    from baremetal.lab.redfish.service import Service

    async with rack() as ((bmc,), _), Service({bmc.address: (Face(bmc.bmc, (MAC,)), bmc)}, port=0) as service:
        driver = make(BmcUrl.parse(f"redfish+https://admin@{bmc.address}:{service.port}?timeout_s=5"), "right")
        yield driver
        await driver.close()


class TestRedfishExtras:
    async def test_it_has_the_optional_protocols(self):
        from baremetal.bmc import base

        async with redfish_machine() as driver:
            for protocol in (base.VirtualMedia, base.HttpBoot, base.BiosSettings, base.SecureBoot, base.NicList):
                assert isinstance(driver, protocol)
            assert await driver.nics() == (MAC,)

    async def test_virtual_cd_in_and_out_twice(self):
        async with redfish_machine() as driver:
            for _ in range(2):
                await driver.insert_media("http://10.0.0.1/boot.iso")
            for _ in range(2):
                await driver.eject_media()

    async def test_http_boot(self):
        async with redfish_machine() as driver:
            plan = await driver.set_http_boot("http://10.0.0.1/ipxe.efi")
            assert (plan.device.value, plan.once, plan.url) == ("http", True, "http://10.0.0.1/ipxe.efi")

    async def test_firmware_settings_are_checked_by_name(self):
        async with redfish_machine() as driver:
            assert (await driver.bios())["SriovGlobalEnable"] == "Disabled"
            await driver.set_bios({"SriovGlobalEnable": "Enabled"})
            with pytest.raises(BmcRefused, match="no firmware setting named Sriov"):
                await driver.set_bios({"Sriov": "Enabled"})

    async def test_secure_boot(self):
        async with redfish_machine() as driver:
            assert await driver.secure_boot() is False
            await driver.set_secure_boot(True)
