"""One node from enrolment to active and back, through the real passes, on a simulated machine."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from baremetal.errors import NotFound
from baremetal.lifecycle import Verb
from baremetal.model.image import Manifest
from baremetal.model.node import Node, State
from baremetal.store import Store, events, nodes, ports
from baremetal.workflows import registry, verbs
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.policy import Policy
from baremetal.workflows.simulated import FakeDrivers, SimulatedRack
from baremetal.workflows.site import Keys, Ramdisk, Site

PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
KEYS = Keys(b"o" * 32, b"m" * 32, PEM)
SITE = Site(ca_pem="CA", ramdisks={"": Ramdisk("vmlinuz", "initrd")})


class Images:
    """One image, with our agent."""

    def get(self, ref: str) -> SimpleNamespace:
        if ref not in ("web", "sha256:aa"):
            raise NotFound(f"no image {ref!r}")
        manifest = Manifest("sha256:aa", "web", 2**30, 4 << 20, 2**28, ())
        return SimpleNamespace(
            id="sha256:aa",
            name="web",
            kind="disk",
            dir="/nowhere",
            manifest=manifest,
            properties={"agent": "baremetal"},
        )

    def list(self) -> list[SimpleNamespace]:
        return [self.get("web")]


class Bench:
    """A conductor and a rack."""

    def __init__(self, path: Path, **policy: object) -> None:
        self.store = Store.open(f"sqlite:///{path}/test.db")
        self.con = Conductor(
            store=self.store, keys=KEYS, bmc=FakeDrivers(), site=SITE, images=Images(), policy=Policy(**policy)
        )  # type: ignore[arg-type]
        self.rack = SimulatedRack(self.con)

    async def start(self) -> None:
        await self.con.start()
        self.rack.connect()

    async def stop(self) -> None:
        await self.rack.close()
        await self.con.stop()
        self.store.close()

    async def enroll(self, name: str, **more: object) -> Node:
        self.rack.add(name)
        return await self.enroll_body(self.rack.body(name, **more))

    async def enroll_body(self, body: dict) -> Node:
        now = self.con.clock.now()
        node = await self.con.write(lambda c: registry.enroll(c, self.con.world, self.con.signer, body, "test", now))
        self.con.touched(node.id)
        return node

    async def ask(self, name: str, verb: str, **args: object) -> Node:
        now = self.con.clock.now()
        node = await self.con.write(lambda c: verbs.ask(c, name, Verb(verb), args, "test", now, self.con.images))
        self.con.touched(node.id)
        return node

    def node(self, name: str) -> Node:
        return self.store.read(lambda c: nodes.get(c, name))

    async def until(self, name: str, state: str, timeout_s: float = 20.0) -> Node:
        """Wait for the state; a fault with nothing under way ends it."""
        async with asyncio.timeout(timeout_s):
            while True:
                node = self.node(name)
                if node.wanted is None and (node.state == state or node.fault):
                    return node
                await self.con.wait_for_change(0.5)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    one = Bench(tmp_path, bmc_pause_s=0.01, power_poll_s=0.01)
    await one.start()
    yield one
    await one.stop()


async def test_a_node_goes_from_enroll_to_active_and_back(bench: Bench) -> None:
    await bench.enroll("n1")
    node = await bench.until("n1", "manageable")
    assert (node.state, node.fault) == (State.MANAGEABLE, None)
    assert node.serial == f"FAKE-{bench.rack.boxes['n1'].bmc.name}"

    await bench.ask("n1", "inspect")
    node = await bench.until("n1", "manageable")
    assert node.fault is None
    assert node.properties["cpus"] == 4
    assert bench.rack.boxes["n1"].wiped == 0, "inspecting never wipes"

    await bench.ask("n1", "provide")
    node = await bench.until("n1", "available")
    assert (node.state, node.fault) == (State.AVAILABLE, None)
    assert bench.rack.boxes["n1"].wiped == 1

    await bench.ask("n1", "deploy", image="web")
    node = await bench.until("n1", "active")
    assert (node.state, node.fault) == (State.ACTIVE, None)
    assert node.image_id == "sha256:aa"
    assert node.config["outcome"] == "applied"

    starts = [plan.device for plan in bench.rack.boxes["n1"].bmc.starts]
    assert [str(d) for d in starts] == ["pxe", "disk"], "one ramdisk boot served inspect, clean and deploy (fast track)"

    await bench.ask("n1", "undeploy")
    node = await bench.until("n1", "available")
    assert (node.state, node.fault, node.image_id) == (State.AVAILABLE, None, None)
    assert bench.rack.boxes["n1"].wiped == 2


async def test_every_event_belongs_and_none_is_blank(bench: Bench) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    node = bench.node("n1")
    told = bench.store.read(lambda c: events.of_node(c, node.id))
    assert [e.stage for e in told if e.kind == "state"] == ["verifying", "manageable"]
    assert all(e.stage for e in told)
    assert bench.store.read(lambda c: ports.of_node(c, node.id))[0].mac == bench.rack.boxes["n1"].mac


async def test_a_wrong_password_is_a_fault_and_the_node_stays_enrolled(bench: Bench) -> None:
    bench.rack.add("n1", password="other")
    await bench.enroll_body(bench.rack.body("n1"))
    node = await bench.until("n1", "manageable")
    assert node.state is State.ENROLL
    assert node.fault
    assert node.fault.code == "bmc-auth"
    assert node.fault.fix


FAULTS = [  # machine's fault, state it ends in, fault code
    ("write-fails", State.DEPLOYING, "image-chunk-corrupt"),
    ("config-fails", State.DEPLOYING, "config-script-failed"),
    ("no-first-boot", State.DEPLOYING, "first-boot-no-hello"),
    ("no-dhcp", State.INSPECTING, "boot-no-dhcp"),
    ("no-loader", State.INSPECTING, "boot-no-loader"),
    ("no-kernel", State.INSPECTING, "boot-no-kernel"),
    ("no-hello", State.INSPECTING, "boot-no-hello"),
    ("agent-dies", State.INSPECTING, "agent-lost"),
]


@pytest.mark.parametrize(("fault", "state", "code"), FAULTS)
async def test_what_goes_wrong_is_said_with_what_to_do(tmp_path: Path, fault: str, state: State, code: str) -> None:
    patience = {
        "hello_s": 0.3,
        "boot_tries": 2,
        "bmc_reset": False,
        "first_boot_s": 0.3,
        "progress_lost_s": 0.3,
        "inspect_s": 30.0,
    }
    bench = Bench(tmp_path, power_poll_s=0.01, **patience)
    await bench.start()
    try:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        bench.rack.boxes["n1"].faults.add(fault)
        await bench.ask("n1", "inspect")
        node = await bench.until("n1", "manageable")
        if node.fault is None:
            await bench.ask("n1", "provide")
            await bench.until("n1", "available")
            await bench.ask("n1", "deploy", image="web")
            node = await bench.until("n1", "active")
        assert node.fault, "a failure always has a fault"
        assert (node.state, node.fault.code) == (state, code)
        assert node.fault.brief
        assert node.fault.fix
        # and the cause gone, the same verb goes through
        bench.rack.boxes["n1"].faults.clear()
        again = {"image": "web"} if state is State.DEPLOYING else {}
        await bench.ask("n1", "deploy" if again else "inspect", **again)
        node = await bench.until("n1", "active" if again else "manageable")
        assert node.fault is None
    finally:
        await bench.stop()


async def test_a_silent_bmc_is_retried_and_then_fails_with_its_words(tmp_path: Path) -> None:
    bench = Bench(tmp_path, verify_patience_s=0.2, bmc_pause_s=0.02)
    await bench.start()
    try:
        bench.rack.add("n1", faults={"silent"})
        await bench.enroll_body(bench.rack.body("n1"))
        node = await bench.until("n1", "manageable")
        assert node.state is State.ENROLL
        assert node.fault
        assert node.fault.code == "bmc-unreachable"
        assert node.fault.attempts > 1
    finally:
        await bench.stop()


async def test_abort_and_hold(bench: Bench) -> None:
    bench.rack.timing = dataclasses.replace(bench.rack.timing, inspect_s=30)
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "inspect")
    while bench.node("n1").step != "inspect.collect":
        await bench.con.wait_for_change(1)
    await bench.ask("n1", "abort")
    node = await bench.until("n1", "manageable")
    assert node.state is State.INSPECTING
    assert node.fault
    assert node.fault.code == "aborted"
