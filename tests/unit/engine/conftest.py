"""A conductor over a simulated rack: everything between API and BMC is real."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from baremetal.lifecycle import Verb
from baremetal.model.node import Node, State
from baremetal.store import Store, nodes
from baremetal.workflows import registry, verbs
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.policy import Policy
from baremetal.workflows.simulated import FakeDrivers, SimulatedImages, SimulatedRack, Timing
from baremetal.workflows.site import Keys, Ramdisk, Site

PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
KEYS = Keys(b"o" * 32, b"m" * 32, PEM)
SITE = Site(ca_pem="CA", ramdisks={"": Ramdisk("vmlinuz", "initrd")})


class Bench:
    """A conductor and a rack."""

    def __init__(self, path: Path, **policy: Any) -> None:
        self.path = path
        self.policy = Policy(**{"bmc_pause_s": 0.01, "power_poll_s": 0.01, "soft_off_poll_s": 0.01, **policy})
        self.open()
        self.rack = SimulatedRack(self.con)

    def open(self) -> None:
        """(Re)open the store under a new conductor, as a restarted server does."""
        self.store = Store.open(f"sqlite:///{self.path}/test.db")
        self.con = Conductor(
            store=self.store, keys=KEYS, bmc=FakeDrivers(), site=SITE, images=SimulatedImages(), policy=self.policy
        )

    async def start(self) -> None:
        await self.con.start()
        self.rack.connect(self.con)

    async def stop(self) -> None:
        await self.rack.close()
        await self.con.stop()
        self.store.close()

    async def enroll(self, name: str, **more: Any) -> Node:
        self.rack.add(name)
        return await self.enroll_body(self.rack.body(name, **more))

    async def enroll_body(self, body: dict[str, Any]) -> Node:
        now = self.con.clock.now()
        node = await self.con.write(lambda c: registry.enroll(c, self.con.world, self.con.signer, body, "test", now))
        self.con.touched(node.id)
        return node

    async def ask(self, name: str, verb: str, **args: Any) -> Node:
        now = self.con.clock.now()
        node = await self.con.write(lambda c: verbs.ask(c, name, Verb(verb), args, "test", now, self.con.images))
        self.con.touched(node.id)
        return node

    async def stand_in_line(self, inspect_s: float) -> Node:
        """n1 is inspected, for so long; n2 waits for its place (with a limit of one): n2 as it was then."""
        self.rack.timing = Timing(inspect_s=inspect_s)
        await self.ask("n1", "inspect")
        await self.when("n1", lambda n: n.state is State.INSPECTING)
        await self.ask("n2", "inspect")
        return await self.when("n2", lambda n: "limit" in str(n.work.get("doing")))

    async def power(self, name: str, target: str) -> Node:
        now = self.con.clock.now()
        node = await self.con.write(lambda c: verbs.power(c, name, target, "test", now))
        self.con.touched(node.id)
        return node

    def node(self, name: str) -> Node:
        return self.store.read(lambda c: nodes.get(c, name))

    async def until(self, name: str, state: str, timeout_s: float = 90.0) -> Node:
        """Wait for the state; a fault with nothing under way ends it."""
        return await self.when(
            name, lambda n: n.wanted is None and (n.state == state or n.fault is not None), timeout_s
        )

    async def when(self, name: str, test: Callable[[Node], bool], timeout_s: float = 90.0) -> Node:
        """Wait until the node is like this."""
        node = self.node(name)
        try:
            async with asyncio.timeout(timeout_s):
                while not test(node):
                    await self.con.wait_for_change(0.5)
                    node = self.node(name)
        except TimeoutError:
            raise AssertionError(f"still {node}") from None
        return node

    async def to(self, name: str, state: str) -> Node:
        """Bring a new node as far as `state`."""
        way = [("manageable", None), ("available", "provide"), ("active", "deploy")]
        await self.enroll(name)
        for reached, verb in way:
            if verb:
                await self.ask(name, verb, **({"image": "web"} if verb == "deploy" else {}))
            node = await self.until(name, reached)
            assert node.fault is None, node.fault
            if reached == state:
                return node
        raise AssertionError(state)


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database, made once."""
    path = tmp_path_factory.mktemp("db") / "test.db"
    Store.open(f"sqlite:///{path}").close()
    return path


MakeBench = Callable[..., "contextlib.AbstractAsyncContextManager[Bench]"]


@pytest.fixture
def make_bench(tmp_path: Path, fresh_database: Path) -> MakeBench:
    shutil.copy(fresh_database, tmp_path / "test.db")

    @contextlib.asynccontextmanager
    async def make(**policy: Any) -> AsyncIterator[Bench]:
        one = Bench(tmp_path, **policy)
        await one.start()
        try:
            yield one
        finally:
            await one.stop()

    return make


@pytest.fixture
async def bench(make_bench: MakeBench) -> AsyncIterator[Bench]:
    async with make_bench() as one:
        yield one
