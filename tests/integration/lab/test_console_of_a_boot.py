"""The server keeps a boot's serial console over the virtual BMC's SOL, and the fault says where to read it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from loopback import address

from baremetal.bmc import consolelog
from baremetal.bmc.pool import BmcPool
from baremetal.lab.bmc import Fleet, VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.lifecycle import Verb
from baremetal.model.event import Kind
from baremetal.model.node import Node
from baremetal.store import Store, events, nodes
from baremetal.wire.ipmi.bmc import Identity
from baremetal.workflows import registry, verbs
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.policy import Policy
from baremetal.workflows.simulated import SimulatedImages
from baremetal.workflows.site import Keys, Ramdisk, Site

pytestmark = pytest.mark.integration
ADDRESS = address(9)
PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
BODY = {
    "name": "r1-u07",
    "bmc_url": f"ipmi://admin@{ADDRESS}",
    "password": "password",
    "macs": ["52:54:00:00:00:07"],
    "labels": {},
}


async def _until(con: Conductor, test, timeout_s: float = 300) -> Node:
    async with asyncio.timeout(timeout_s):
        while not test(node := con.store.read(lambda c: nodes.get(c, "r1-u07"))):
            await con.wait_for_change(0.5)
    return node


@contextlib.asynccontextmanager
async def inspected(tmp_path: Path, **policy: float) -> AsyncIterator[tuple[Conductor, VirtualBmc, Node]]:
    """A server that waits for the hello of a machine that will not say it, with its console being recorded."""
    identity = Identity(name="r1-u07", vendor="Acme", product="X1", serial="SN42", uuid=uuid.UUID(int=7))
    virtual = VirtualBmc(diskless_bmc(MemoryChassis(), identity=identity), ADDRESS)
    store = Store.open(f"sqlite:///{tmp_path}/test.db")
    async with Fleet([virtual]), BmcPool(1) as pool:
        con = Conductor(
            store=store,
            keys=Keys(b"o" * 32, b"m" * 32, PEM),
            bmc=pool,
            site=Site(ca_pem="CA", ramdisks={"": Ramdisk("vmlinuz", "initrd")}),
            images=SimulatedImages(),
            policy=Policy(power_poll_s=0.1, sensor_poll_s=0, **policy),  # type: ignore[arg-type]
            state_dir=tmp_path,
        )
        await con.start()
        now = con.clock.now()
        node = await con.write(lambda c: registry.enroll(c, con.world, con.signer, BODY, "me", now))
        con.touched(node.id)
        await _until(con, lambda n: n.wanted is None and n.state == "manageable")
        asked = con.clock.now()
        await con.write(lambda c: verbs.ask(c, "r1-u07", Verb.INSPECT, {}, "me", asked, con.images))
        con.touched(node.id)
        yield con, virtual, await _listening(con, node.id, "")
        await con.stop()
    store.close()


async def _listening(con: Conductor, node_id: str, before: str) -> Node:
    """Until the recorder has its session of a boot that is not `before`."""
    node = await _until(con, lambda n: n.wait is not None and n.boot_id not in (None, before))
    async with asyncio.timeout(120):
        while not any(  # noqa: ASYNC110
            e.boot_id == node.boot_id and e.stage == "recording"
            for e in con.store.read(lambda c: events.of_node(c, node_id, kinds=[str(Kind.CONSOLE)]))
        ):
            await asyncio.sleep(0.1)
    return node


async def test_a_boot_that_hangs_leaves_its_last_words(tmp_path: Path) -> None:
    async with inspected(tmp_path, post_s=15.0, boot_tries=1) as (con, virtual, node):
        virtual.printed(b"Memory training failed: DIMM A3\r\n")
        failed = await _until(con, lambda n: n.wanted is None)
    assert failed.fault is not None
    assert failed.fault.code == "boot-no-dhcp"
    link = failed.fault.evidence["console"]
    assert link == f"baremetal node console r1-u07 --boot {failed.boot_id}"
    recorded = tmp_path / "console" / node.id / f"{failed.boot_id}.log"
    assert "DIMM A3" in "".join(text for _, kind, text in consolelog.read(recorded) if kind == "o")


async def test_a_machine_without_memory_is_not_tried_again(tmp_path: Path) -> None:
    """Each boot would wait for minutes, three times over, for what the console has said already."""
    async with inspected(tmp_path, post_s=600.0, boot_tries=3) as (con, virtual, _):
        virtual.printed(b"[    5.124504] Initramfs unpacking failed: write error\r\n")
        failed = await _until(con, lambda n: n.wanted is None)
    assert failed.fault is not None
    assert "does not fit into its memory" in failed.fault.brief
    assert "memory modules" in failed.fault.fix
    assert failed.fault.evidence["tries"] == 1


async def test_a_kernel_that_stops_is_booted_again_at_once(tmp_path: Path) -> None:
    async with inspected(tmp_path, post_s=600.0, boot_tries=2) as (con, virtual, first):
        virtual.printed(b"[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n")
        second = await _listening(con, first.id, first.boot_id or "")
        assert second.boot_id != first.boot_id
        virtual.printed(b"[    2.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n")
        failed = await _until(con, lambda n: n.wanted is None)
    assert failed.fault is not None
    assert "Kernel panic" in failed.fault.brief
    assert failed.fault.evidence["tries"] == 2


async def test_the_last_words_of_an_earlier_boot_end_no_other(tmp_path: Path) -> None:
    """Some BMCs say their last page again to whoever opens the console."""
    line = b"[    2.554843] Kernel panic - not syncing: System is deadlocked on memory\r\n"
    async with inspected(tmp_path, post_s=600.0, boot_tries=3) as (con, virtual, first):
        virtual.printed(line)
        failed = await _until(con, lambda n: n.wanted is None)
        assert failed.fault is not None
        asked = con.clock.now()
        await con.write(lambda c: verbs.ask(c, "r1-u07", Verb.INSPECT, {}, "me", asked, con.images))
        con.touched(first.id)
        await _listening(con, first.id, first.boot_id or "")
        virtual.printed(line)
        await asyncio.sleep(3)
        waiting = con.store.read(lambda c: nodes.get(c, "r1-u07"))
    assert waiting.wanted is not None
    assert waiting.wait is not None
