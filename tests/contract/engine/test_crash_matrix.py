"""The server dies at every effect of every workflow, is started again, and no node is lost.

An effect is a BMC command or a commit; the server dies just after it was done
and before it knows (which is also just before the next one). "Dies" means: from that instant nothing
of the old conductor gets through to store, BMC or boot plane, and a new one
opens the same file. The machines live on, as machines do. (A real kill -9 of a
real process: hack/bench/engine-kill, tests/soak.)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from baremetal.bmc.fake import FakeDriver
from baremetal.bmc.url import BmcUrl
from baremetal.errors import Unreachable
from baremetal.lifecycle import Verb
from baremetal.model.node import Node
from baremetal.secrets import Secret
from baremetal.store import Store, events, nodes
from baremetal.workflows import registry, verbs
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.policy import Policy
from baremetal.workflows.simulated import SimulatedImages, SimulatedRack
from baremetal.workflows.site import Keys, Ramdisk, Site

PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
KEYS = Keys(b"o" * 32, b"m" * 32, PEM)
SITE = Site(ca_pem="CA", ramdisks={"": Ramdisk("vmlinuz", "initrd")})
POLICY = Policy(bmc_pause_s=0.01, power_poll_s=0.005)
Wish = tuple[str, dict[str, Any]]
COMMANDS = ("power", "set_power", "set_boot", "identify")


class Death(BaseException):
    """The server is dead; nobody catches this."""


class Fate:
    """Counts effects and strikes at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.count, self.dead, self.counting = at, 0, False, True
        self.names: list[str] = []

    def effect(self, name: str) -> None:
        """One point at which the server can die."""
        self.alive()
        if not self.counting:
            return
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            self.dead = True
            raise Death

    def alive(self) -> None:
        if self.dead:
            raise Death


class FatefulStore(Store):
    """A store whose commits are effects."""

    fate: Fate

    async def write(self, write: Callable[[Any], Any]) -> Any:
        self.fate.alive()
        result = await super().write(write)
        self.fate.effect("commit")
        return result

    def read(self, query: Callable[[Any], Any]) -> Any:
        self.fate.alive()
        return super().read(query)


class FatefulDriver(FakeDriver):
    """A driver whose commands are effects."""

    fate: Fate

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in COMMANDS:
            return found

        async def fateful(*args: Any, **kwargs: Any) -> Any:
            self.fate.alive()
            result = await found(*args, **kwargs)
            self.fate.effect(name)
            return result

        return fateful


class Drivers:
    def __init__(self, fate: Fate) -> None:
        self.fate = fate

    def driver(self, url: str, password: Secret) -> FatefulDriver:
        made = FatefulDriver(BmcUrl.parse(url), password.reveal())
        made.fate = self.fate
        return made


class Line:
    """The boot plane's link: a dead control is away, not an exception."""

    def __init__(self, con: Conductor) -> None:
        self.con = con
        self.inbox = self

    async def messages(self, batch: list[Any]) -> None:
        await self._try(lambda: self.con.inbox.messages(batch))

    async def call(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._try(lambda: self.con.inbox.call(kind, body))

    async def _try(self, ask: Callable[[], Any]) -> Any:
        try:
            return await ask()
        except Death:
            raise Unreachable("control is away") from None

    def snapshot(self) -> Any:
        return self.con.snapshot()

    def on_push(self, push: Any) -> None:
        self.con.on_push(push)


class Server:
    """One life of the server."""

    def __init__(self, path: Path, fate: Fate) -> None:
        self.fate = fate
        self.store = FatefulStore.open(f"sqlite:///{path}/test.db")
        self.store.fate = fate  # type: ignore[attr-defined]
        self.con = Conductor(
            store=self.store, keys=KEYS, bmc=Drivers(fate), site=SITE, images=SimulatedImages(), policy=POLICY
        )

    async def bury(self) -> None:
        """What the kernel does when the process is gone."""
        self.fate.dead = True
        for task in [*self.con._tasks, *self.con.engine._main, *self.con.engine._running.values()]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception, Death):
                await task
        self.store.close()


async def _live(path: Path, rack: SimulatedRack, wishes: list[Wish], strike: int, skip: int) -> tuple[Node, list[str]]:
    """Carry out the wishes, dying at effect `strike` after wish `skip`; the node at the end, and the effects."""
    first = Fate(strike)
    server = Server(path, first)
    try:
        async with asyncio.timeout(180):
            await _rise(server, rack)
            while True:
                if server.fate.dead:
                    await server.bury()
                    server = Server(path, Fate(0))
                    await _rise(server, rack)
                node, asked = _look(server)
                server.fate.counting = asked >= skip
                if node is not None and node.wanted:
                    await asyncio.sleep(0.002)
                elif node is not None and (node.fault or asked == len(wishes)):
                    return node, first.names
                else:
                    with contextlib.suppress(Death):
                        await _wish(server, *wishes[asked])
    finally:
        await server.bury()


async def _rise(server: Server, rack: SimulatedRack) -> None:
    with contextlib.suppress(Death):
        await server.con.start()
        rack.connect(Line(server.con))  # type: ignore[arg-type]


def _look(server: Server) -> tuple[Node | None, int]:
    """The node, and how many wishes were stored: the answer to one may be lost with the server."""

    def query(conn: Any) -> tuple[Node | None, int]:
        node = nodes.find(conn, "n1")
        told = events.of_node(conn, node.id, kinds=["verb"]) if node else []
        return node, len(told)

    with contextlib.suppress(Death):
        return server.store.read(query)
    return None, 0


async def _wish(server: Server, verb: str, args: dict[str, Any]) -> None:
    con = server.con
    now = con.clock.now()
    if verb == "enroll":
        node = await con.write(lambda c: registry.enroll(c, con.world, con.signer, args, "test", now))
        con.touched(node.id)
        return
    node = await con.write(lambda c: verbs.ask(c, "n1", Verb(verb), args, "test", now, con.images))
    con.touched(node.id)


DEPLOYED: list[Wish] = [("enroll", {}), ("provide", {}), ("deploy", {"image": "web"})]
LOOK = {"interface": "service", "step": "collect_inventory", "priority": 45}
LONG = ("rebuild", "rescue-and-back", "service")  # a minute each: in the slow ring
WORKFLOWS: dict[str, tuple[list[Wish], int, str]] = {  # wishes, the first wish under test, where it must end
    "to-active": ([("enroll", {}), ("inspect", {}), ("provide", {}), ("deploy", {"image": "web"})], 0, "active"),
    "release": ([*DEPLOYED, ("undeploy", {})], 3, "available"),
    "rebuild": ([*DEPLOYED, ("rebuild", {})], 3, "active"),
    "rescue-and-back": ([*DEPLOYED, ("rescue", {"password": "one time"}), ("unrescue", {})], 3, "active"),
    "service": ([*DEPLOYED, ("service", {"steps": [LOOK]})], 3, "active"),
    "clean": ([("enroll", {}), ("inspect", {}), ("clean", {"method": "metadata"})], 2, "manageable"),
    "adopt": ([("enroll", {}), ("adopt", {"image": "web"})], 1, "active"),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in WORKFLOWS])
@pytest.mark.timeout(600)
async def test_no_effect_is_a_bad_place_to_die(tmp_path: Path, name: str) -> None:
    wishes, skip, goal = WORKFLOWS[name]
    blank = tmp_path / "blank.db"
    Store.open(f"sqlite:///{blank}").close()
    total, strike, names, usual = 0, 0, ["never"], (0, 0)
    while strike <= total:
        path = tmp_path / f"{strike}"
        path.mkdir()
        (path / "test.db").write_bytes(blank.read_bytes())
        rack = SimulatedRack(None)  # type: ignore[arg-type]
        box = rack.add("n1")
        node, seen = await _live(path, rack, [("enroll", rack.body("n1")), *wishes[1:]], strike, skip)
        await rack.close()
        where = f"died at effect {strike} of {total}, {names[min(strike, len(names) - 1)]}"
        assert node.fault is None, f"{where}: {node.fault}"
        assert str(node.state) == goal, where
        starts = [str(plan.device) for plan in box.bmc.starts]
        if strike == 0:
            total, names = len(seen), ["never", *seen]
            usual = len(starts), box.written
            assert total >= 3
        assert len(starts) <= usual[0] + 1, f"{where}: a harmless repeat is one more start at most, not {starts}"
        assert box.written <= usual[1] + 1, where
        strike += 1
