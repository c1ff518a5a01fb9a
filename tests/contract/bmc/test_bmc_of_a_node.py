"""A node's BMC through server, API and command line: pool, worker process, virtual BMC, all real."""

import asyncio
import contextlib
import dataclasses
import os
import pty
import sys

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi import Request

from baremetal.api.app import create_app
from baremetal.api.native.common import in_charge
from baremetal.bmc.pool import BmcPool
from baremetal.cli.client import Client
from baremetal.errors import BaremetalError
from baremetal.lab.bmc import Fleet, VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.store import Store, events, nodes
from baremetal.store import secrets as secret_rows
from baremetal.wire.ipmi.users import one_admin
from baremetal.workflows import bmcpassword
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.policy import Policy
from baremetal.workflows.site import Keys

PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Site:
    """A server with one enrolled node `n1`."""

    def __init__(self, con, bmc, client, socket):
        self.con, self.bmc, self.client, self.socket = con, bmc, client, socket

    async def get(self, path, **query):
        return await asyncio.to_thread(lambda: self.client.get(path, **query))

    async def put(self, path, body):
        return await asyncio.to_thread(self.client.put, path, body)

    async def post(self, path, body):
        return await asyncio.to_thread(self.client.post, path, body)

    def node(self):
        return self.con.store.read(lambda c: nodes.get(c, "n1"))

    def told(self, stage):
        found = self.con.store.read(lambda c: events.of_node(c, self.node().id))
        return [event for event in found if event.stage == stage]

    def password(self):
        world = self.con.world
        return self.con.store.read(
            lambda c: secret_rows.get(c, world.operator, self.node().id, secret_rows.BMC_PASSWORD)
        ).reveal()

    def heat(self, raw):
        cpu = self.bmc.bmc.sensors[0]
        self.bmc.bmc.sensors = (dataclasses.replace(cpu, raw=raw), *self.bmc.bmc.sensors[1:])


async def eventually(test, seconds=120.0):
    """Returns as soon as this is true."""
    for _ in range(int(seconds / 0.02)):
        if test():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came")


@pytest.fixture
async def site(tmp_path):
    chassis = diskless_bmc(MemoryChassis(on=True), users=one_admin("admin", "long enough 16 b"))
    bmc = VirtualBmc(chassis, "127.0.0.1", 0)
    async with Fleet([bmc]), BmcPool() as pool:
        store = Store.open(f"sqlite:///{tmp_path}/test.db")
        con = Conductor(
            store=store,
            keys=Keys(b"o" * 32, b"m" * 32, PEM),
            bmc=pool,
            policy=Policy(sensor_poll_s=3600.0),
            state_dir=tmp_path,
        )
        await con.start()
        socket = tmp_path / "api.sock"
        server = uvicorn.Server(uvicorn.Config(create_app(con), uds=str(socket), log_level="error"))
        server.install_signal_handlers = lambda: None
        serving = asyncio.create_task(server.serve())
        await eventually(socket.exists)
        one = Site(con, bmc, Client(socket_path=socket), socket)
        body = {
            "name": "n1",
            "bmc_url": f"ipmi://admin@127.0.0.1:{bmc.port}?timeout_s=2",
            "password": "long enough 16 b",
        }
        await one.post("/api/nodes", body)
        async with asyncio.timeout(20):
            while one.node().state != "manageable":
                await con.wait_for_change(0.5)
        yield one
        server.should_exit = True
        await serving
        await con.stop()
        store.close()


async def cli(site, *words):
    """`baremetal node …` as typed, with this server."""
    config = site.socket.parent / "baremetal.toml"
    config.write_text(f'run_dir = "{site.socket.parent}"\nstate_dir = "{site.socket.parent}"\n')
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "baremetal",
        "-c",
        str(config),
        "node",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NEW": "the next one"},
    )
    out, err = await asyncio.wait_for(child.communicate(), 30)
    return child.returncode, out.decode(), err.decode()


async def test_audited_when_first_known(site):
    site.bmc.bmc.suites = (0, 3, 17)
    await site.con.health.once(all_due=True)
    kept = site.node().properties["bmc"]["audit"]
    assert kept["worst"] == "critical"
    assert "cipher-0" in kept["checks"]
    assert site.told("bmc-audit")[-1].outcome == "alarm"
    code, out, err = await cli(site, "audit", "n1")
    assert code == 1, (out, err)
    assert "any password works" in out
    assert "long enough" not in out


async def test_a_hot_sensor_is_an_event_once_and_when_it_is_well_again(site):
    for raw in (41, 96, 97, 41):
        site.heat(raw)
        await site.con.health.once(all_due=True)
    told = [(event.outcome, event.data["state"], event.data.get("value")) for event in site.told("sensor")]
    assert told == [("alarm", "critical", 96.0), ("ok", "ok", 41.0)]
    assert "limit 95" in site.told("sensor")[0].data["because"]
    text = await site.get("/metrics/sensors")
    assert 'baremetal_bmc_temperature_celsius{node="n1",sensor="CPU Temp",type="Temperature"} 41' in text
    assert 'baremetal_bmc_up{node="n1"} 1' in text


async def test_new_records_of_the_log_are_events_and_old_ones_are_not(site):
    await site.con.health.once(all_due=True)
    assert site.told("log") == []
    site.bmc.bmc.sel.event(0x08, 3, 1, 1_790_000_000)  # power supply: failure
    await site.con.health.once(all_due=True)
    await site.con.health.once(all_due=True)
    assert [event.outcome for event in site.told("log")] == ["alarm"]
    code, out, _ = await cli(site, "events", "n1", "--bmc")
    assert code == 0
    assert "Power Supply" in out
    assert "fail" in out.lower()


async def test_sensors_as_typed(site):
    site.heat(96)
    code, out, err = await cli(site, "sensors", "n1", "--bad")
    assert code == 1, (out, err)
    assert "CPU Temp  96     °C    critical" in out
    site.bmc.faults.silent = True
    code, out, err = await cli(site, "sensors", "n1", "--bad")
    assert "CPU Temp" in out
    assert "shown as read" in err


async def test_a_silent_bmc_is_asked_less_and_less(site):
    site.bmc.faults.silent = True
    await site.con.health.once(all_due=True)
    health = site.con.health.known[site.node().id]
    assert (health.up, health.misses) == (False, 1)
    attempts = site.con.world.driver(site.node()).attempts
    before = len(attempts)
    await site.con.health.once()
    assert len(attempts) == before


async def test_a_new_password_is_proved_and_kept(site):
    code, _, err = await cli(site, "password", "n1", "--new-password-env", "NEW")
    assert code == 0, err
    assert site.password() == "the next one"
    assert site.bmc.bmc.users[2].password == b"the next one"
    assert (await site.get("/api/nodes/n1/bmc/users"))["users"][0]["name"] == "admin"
    assert "the next one" not in str(await site.get("/api/nodes/n1/events"))


async def test_a_file_from_before_the_change_does_not_bring_the_old_password_back(site):
    node = {"name": "n1", "bmc_url": f"ipmi://admin@127.0.0.1:{site.bmc.port}?timeout_s=2"}
    for new in ("the next one", "and another"):
        await site.put("/api/nodes/n1/bmc/password", {"password": new})
    old = {"nodes": [node | {"password": "long enough 16 b"}]}
    assert (await site.post("/api/nodes/import", old))["results"][0]["verdict"] == "unchanged"
    assert site.password() == "and another"
    told = {"nodes": [node | {"password": "a third one"}]}
    assert (await site.post("/api/nodes/import", told))["results"][0]["changes"] == ["password"]
    assert (await site.post("/api/nodes/import", old))["results"][0]["changes"] == ["password"]


async def test_a_crash_while_the_password_changes_loses_nothing(site):
    from baremetal.secrets import Secret

    await bmcpassword._write(site.con.world, site.node(), bmcpassword.NEXT, Secret("set, then died"))
    site.bmc.bmc.users[2].password = b"set, then died"
    await site.put("/api/nodes/n1/bmc/password", {"password": "and on"})
    assert (site.password(), site.bmc.bmc.users[2].password) == ("and on", b"and on")


async def test_too_long_a_password_is_refused_before_anything_is_sent(site):
    before = site.bmc.datagrams
    with pytest.raises(BaremetalError, match="21 bytes"):
        await site.put("/api/nodes/n1/bmc/password", {"password": "x" * 21})
    assert site.bmc.datagrams == before


@contextlib.asynccontextmanager
async def typist(site, *words):
    """`node console` on a terminal of its own: (descriptor of the terminal, process)."""
    ours, theirs = pty.openpty()
    config = site.socket.parent / "baremetal.toml"
    config.write_text(f'run_dir = "{site.socket.parent}"\nstate_dir = "{site.socket.parent}"\n')
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "baremetal", "-c", str(config), "node", "console", "n1", *words,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        yield ours, child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        os.close(ours)


async def screen(terminal, what, seconds=120.0):
    """Reads the terminal until it shows this."""
    seen = b""

    def shows():
        nonlocal seen
        with contextlib.suppress(BlockingIOError, OSError):
            seen += os.read(terminal, 4096)
        return what in seen

    await eventually(shows, seconds)
    return seen


async def test_one_types_another_watches_all_is_recorded(site):
    typed = bytearray()
    site.bmc.keyboard = typed.extend
    async with typist(site) as (mine, me), typist(site, "--follow") as (yours, _):
        await screen(mine, b"console of n1 open")
        await screen(yours, b"console of n1 open")
        site.bmc.printed(b"n1 login: ")
        await asyncio.gather(screen(mine, b"n1 login: "), screen(yours, b"n1 login: "))
        os.write(mine, b"root\r")
        os.write(yours, b"not me\r")
        await eventually(lambda: b"root\r" in typed)
        assert b"not me" not in typed
        os.write(mine, b"~.")
        assert await asyncio.wait_for(me.wait(), 10) == 0
        site.bmc.printed(b"still here\r\n")
        await screen(yours, b"still here")
    code, out, _ = await cli(site, "console", "n1", "--log")
    assert (code, out) == (0, "n1 login: still here\r\n")
    code, out, _ = await cli(site, "console", "n1", "--replay", "--speed", "100")
    assert out == "n1 login: still here\r\n"


async def test_the_keyboard_is_one_persons_until_taken(site):
    typed = bytearray()
    site.bmc.keyboard = typed.extend
    async with typist(site) as (first, _):
        await screen(first, b"open")
        async with typist(site) as (second, child):
            assert b"has the keyboard" in await screen(second, b"for help")
            os.write(second, b"no\r")
            await screen(second, b"--take")
            os.write(second, b"~.")
            await asyncio.wait_for(child.wait(), 10)
        async with typist(site, "--take") as (third, _):
            await screen(third, b"for help")
            os.write(third, b"mine\r")
            await eventually(lambda: b"mine\r" in typed)
    assert b"no" not in typed


async def test_a_lost_line_is_opened_again(site):
    async with typist(site, "--follow") as (terminal, _):
        await screen(terminal, b"console of n1 open")
        site.bmc.server.drop_all()
        site.bmc.bmc.sol = None
        await site.con.consoles.close()
        await screen(terminal, b"trying again")
        await screen(terminal, b"console of n1 open")
        site.bmc.printed(b"back")
        await screen(terminal, b"back")


async def test_alarms_as_they_come(site):
    config = site.socket.parent / "baremetal.toml"
    config.write_text(f'run_dir = "{site.socket.parent}"\nstate_dir = "{site.socket.parent}"\n')
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "baremetal", "-c", str(config), "node", "events", "n1", "--watch", "--alarms",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await asyncio.sleep(1.0)  # before or after it began to watch: it is told either way
        site.heat(96)
        await site.con.health.once(all_due=True)
        line = await asyncio.wait_for(child.stdout.readline(), 120)
        while b"sensor" not in line:  # the audit's alarm, when it came first
            line = await asyncio.wait_for(child.stdout.readline(), 120)
        assert b"CPU Temp is critical at 96" in line
    finally:
        child.kill()
        await child.wait()


AS = [  # what authentication said, may act
    ({}, True),
    ({"baremetal.role": "operator"}, True),
    ({"baremetal.role": "observer"}, False),
    ({"baremetal.role": "operator", "baremetal.project": "blue"}, True),
    ({"baremetal.role": "operator", "baremetal.project": "red"}, False),
]


async def test_who_looks_takes_no_keyboard_and_sees_no_accounts(site):
    await asyncio.to_thread(site.client.patch, "/api/nodes/n1", {"labels": {"owner": "blue", "lessee": "red"}})
    inner = create_app(site.con)
    for said, may in AS:

        async def app(scope, receive, send, said=said):
            await inner({**scope, **said}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://control") as client:
            answer = await client.get("/api/nodes/n1/bmc/users")
        assert answer.status_code == (200 if may else 403)
        assert in_charge(Request({"type": "http", **said}), site.node()) is may
