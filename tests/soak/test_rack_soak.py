"""A simulated rack deploys and releases for a long time, with BMC faults, lost agents and server restarts.

BAREMETAL_SOAK_MINUTES (20) and BAREMETAL_SOAK_NODES (200). At the end every
node rests in a stable state or has a fault that says something, and neither
memory nor file handles have grown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from baremetal import lifecycle
from baremetal.errors import Refused
from baremetal.lifecycle import Phase, Verb
from baremetal.model.node import Node, State
from baremetal.store import Store, nodes
from baremetal.workflows import registry, verbs
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.policy import Policy
from baremetal.workflows.simulated import FakeDrivers, SimulatedImages, SimulatedRack, Timing
from baremetal.workflows.site import Keys, Ramdisk, Site

pytestmark = pytest.mark.soak
MINUTES = float(os.environ.get("BAREMETAL_SOAK_MINUTES", "20"))
COUNT = int(os.environ.get("BAREMETAL_SOAK_NODES", "200"))
PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
BOX_FAULTS = (
    "no-dhcp",
    "no-loader",
    "no-kernel",
    "no-hello",
    "agent-dies",
    "write-fails",
    "config-fails",
    "no-first-boot",
)
BMC_FAULTS = ("silent", "busy", "ignores-power", "forgets-boot")
NEXT = {
    State.ENROLL: (Verb.MANAGE, {}),
    State.MANAGEABLE: (Verb.PROVIDE, {}),
    State.AVAILABLE: (Verb.DEPLOY, {"image": "web"}),
    State.ACTIVE: (Verb.UNDEPLOY, {}),
    State.ERROR: (Verb.UNDEPLOY, {}),
}
AFTER_FAILURE = {State.CLEANING: Verb.MANAGE, State.DEPLOYING: Verb.UNDEPLOY, State.INSPECTING: Verb.MANAGE}


def serve(path: Path) -> Conductor:
    patience = {"hello_s": 3.0, "boot_tries": 2, "bmc_reset": False, "first_boot_s": 3.0, "progress_lost_s": 2.0}
    return Conductor(
        store=Store.open(f"sqlite:///{path}/soak.db"),
        keys=Keys(b"o" * 32, b"m" * 32, PEM),
        bmc=FakeDrivers(),
        site=Site(ca_pem="CA", ramdisks={"": Ramdisk("vmlinuz", "initrd")}),
        images=SimulatedImages(),
        policy=Policy(bmc_patience_s=3.0, power_confirm_s=2.0, bmc_pause_s=0.2, power_sync_s=5.0, **patience),
    )


def memory_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def nudge(con: Conductor, node: Node) -> None:
    """Ask the next thing of a node that rests."""
    if lifecycle.phase(node) is Phase.FAILED:
        verb, args = AFTER_FAILURE.get(node.state), {}
    else:
        verb, args = NEXT.get(node.state, (None, {}))
    if verb is None or node.wanted or node.power_wanted:
        return
    now = con.clock.now()
    with contextlib.suppress(Refused):
        await con.write(lambda c: verbs.ask(c, node.id, verb, args, "soak", now, con.images))
        con.touched(node.id)


@pytest.mark.timeout(int(MINUTES * 60) + 300)
async def test_a_rack_goes_on_for_a_long_time(tmp_path: Path) -> None:
    con = serve(tmp_path)
    rack = SimulatedRack(con, Timing(post_s=0.2, kernel_s=0.1, inspect_s=0.1, clean_s=0.1, write_s=0.4, jitter=1.0))
    await con.start()
    rack.connect()
    for i in range(COUNT):
        rack.add(f"n{i}")
        body, now = rack.body(f"n{i}"), con.clock.now()
        node = await con.write(lambda c, b=body, t=now: registry.enroll(c, con.world, con.signer, b, "soak", t))  # type: ignore[misc]
        con.touched(node.id)
    begun, restart_at, marks, restarts, deploys = time.monotonic(), time.monotonic() + 10, [], 0, 0
    while time.monotonic() - begun < MINUTES * 60:
        for node in con.store.read(lambda c: nodes.page(c, limit=None)):
            await nudge(con, node)
        for box in random.sample(list(rack.boxes.values()), max(1, COUNT // 20)):
            box.faults = {random.choice(BOX_FAULTS)} if random.random() < 0.3 else set()
            box.bmc.faults = {random.choice(BMC_FAULTS)} if random.random() < 0.2 else set()
        await asyncio.sleep(0.5)
        if time.monotonic() > restart_at:
            await con.stop()
            con.store.close()
            con = serve(tmp_path)
            await con.start()
            rack.connect(con)
            restarts, restart_at = restarts + 1, time.monotonic() + random.uniform(5, 30)
            marks.append((memory_mb(), len(os.listdir("/proc/self/fd"))))
    for box in rack.boxes.values():
        box.faults, box.bmc.faults = set(), set()
        deploys += box.written
    async with asyncio.timeout(120):
        while busy := con.store.read(nodes.working):
            await asyncio.sleep(0.5)
            assert busy >= 0
    for node in con.store.read(lambda c: nodes.page(c, limit=None)):
        phase = lifecycle.phase(node)
        assert phase in (Phase.STABLE, Phase.FAILED), node
        if phase is Phase.FAILED or node.state is State.ENROLL:
            assert node.fault, node
            assert node.fault.brief and node.fault.fix, node.fault  # noqa: PT018
    print(f"{COUNT} nodes, {deploys} deploys, {restarts} restarts, memory and handles {marks[:1]} to {marks[-1:]}")
    await rack.close()
    await con.stop()
    con.store.close()
    assert deploys >= COUNT * MINUTES / 2
    if len(marks) > 4:
        assert marks[-1][0] < marks[1][0] * 1.5 + 50, "memory grew"
        assert marks[-1][1] <= marks[1][1] + 10, "file handles grew"
