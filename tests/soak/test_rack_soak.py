"""A rack deploys and releases for a long time while BMCs fail, packets get lost and the server is killed with -9.

BAREMETAL_SOAK_MINUTES (20) and BAREMETAL_SOAK_NODES (200). For the first half the server process is killed again
and again; in the second half one life of it is watched for growth. At the end every node rests in a stable state or
has a fault that says something true, and no command went to a BMC that may not be repeated.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from baremetal.workflows.simulated import Timing

MINUTES = float(os.environ.get("BAREMETAL_SOAK_MINUTES", "20"))
COUNT = int(os.environ.get("BAREMETAL_SOAK_NODES", "200"))
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
BMC_FAULTS = ("silent", "busy", "ignores-power", "forgets-boot", "hung")
DEPLOY = {"image": "web"}
NEXT = {
    "enroll": "manage",
    "manageable": "provide",
    "available": "deploy",
    "active": "undeploy",
    "error": "undeploy",
    "clean failed": "manage",
    "deploy failed": "undeploy",
    "inspect failed": "manage",
}
PATIENCE = {
    "hello_s": 6.0,
    "boot_s": 4.0,
    "post_s": 4.0,
    "boot_tries": 2,
    "bmc_reset": False,
    "first_boot_s": 8.0,
    "progress_lost_s": 6.0,
    "bmc_patience_s": 8.0,
    "verify_patience_s": 5.0,
    "power_confirm_s": 3.0,
    "bmc_pause_s": 0.3,
    "power_sync_s": 20.0,
    "deploy_limit": COUNT // 2,
}


async def nudge(rig: Any) -> None:
    """Ask the next thing of all nodes that rest."""
    listed = (await rig.patient("GET", "/api/nodes?limit=10000"))["nodes"]
    for node in listed:
        verb = NEXT.get(node["ironic_state"])
        if verb is None or node["wanted"] or node["power_wanted"]:
            continue
        await rig.patient("PUT", f"/api/nodes/{node['name']}/verbs/{verb}", DEPLOY if verb == "deploy" else {})


def mischief(rig: Any) -> None:
    """Some machines and BMCs fail, some are well again."""
    for box in random.sample(list(rig.rack.boxes.values()), max(1, COUNT // 20)):
        box.faults = {random.choice(BOX_FAULTS)} if random.random() < 0.3 else set()
        box.bmc.faults = {random.choice(BMC_FAULTS)} if random.random() < 0.2 else set()


async def cycle(rig: Any, seconds: float, *, kills: bool) -> list[tuple[float, int]]:
    """Deploy and release; (MB of memory that is no mapped file, handles) of the server once in a while."""
    begun, marks = time.monotonic(), []
    mark_at, kill_at = begun + min(30.0, seconds / 8), begun + 10
    while time.monotonic() - begun < seconds:
        mischief(rig)
        await nudge(rig)
        await asyncio.sleep(0.5)
        if kills and time.monotonic() > kill_at:
            await rig.kill()
            kill_at = time.monotonic() + random.uniform(5, 30)
        if time.monotonic() > mark_at:
            marks.append((rig.memory_mb("Pss_Anon"), rig.handles()))
            mark_at = time.monotonic() + 10
    return marks


async def come_to_rest(rig: Any) -> list[dict[str, Any]]:
    """No more trouble: everything under way ends."""
    for box in rig.rack.boxes.values():
        box.faults, box.bmc.faults = set(), set()
    rig.loss.share = 0.0
    until = time.monotonic() + 120
    while True:
        listed: list[dict[str, Any]] = (await rig.patient("GET", "/api/nodes?limit=10000"))["nodes"]
        busy = [n for n in listed if n["wanted"] or n["power_wanted"]]
        if not busy:
            return listed
        assert time.monotonic() < until, f"{len(busy)} never come to rest: {busy[:2]}"
        await asyncio.sleep(1)


@pytest.mark.soak
@pytest.mark.timeout(int(MINUTES * 60) + 400)
async def test_a_rack_goes_on_for_a_long_time(kit: ModuleType, tmp_path: Path) -> None:
    timing = Timing(post_s=0.5, loader_s=0.1, kernel_s=0.3, inspect_s=0.3, clean_s=0.5, write_s=1.5, jitter=1.0)
    async with kit.Rig(tmp_path, timing, PATIENCE, kit.Loss(0.04)) as rig:
        await rig.enroll(COUNT)
        await cycle(rig, MINUTES * 30, kills=True)
        marks = await cycle(rig, MINUTES * 30, kills=False)
        listed = await come_to_rest(rig)
        checked = await rig.patient("GET", "/api/db/check")
        status = await rig.patient("GET", "/api/status")
        written = sum(box.written for box in rig.rack.boxes.values())
    at_end: dict[str, int] = {}
    for node in listed:
        at_end[node["ironic_state"]] = at_end.get(node["ironic_state"], 0) + 1
    print(
        f"{COUNT} nodes, {MINUTES:g} min: {written} disks written, {rig.kills} kills, {rig.loss.lost} packets lost, "
        f"at the end {at_end}; MB and handles {marks[:1]} over {marks[len(marks) // 2]} to {marks[-1:]}; "
        f"answers again after {max(rig.answered_s, default=0):.1f} s at most"
    )
    for node in listed:
        if node["phase"] == "failed" or node["ironic_state"] in ("enroll", "error"):
            fault = node["fault"]
            assert fault, node
            assert fault["brief"], fault
            assert fault["fix"], fault
            assert fault["code"] != "internal", fault
        else:
            assert node["phase"] == "stable", node
    assert checked["ok"], checked
    assert rig.unsafe == []
    assert status["engine"]["crashes"] == 0
    assert "Traceback" not in (tmp_path / "server.log").read_text()
    assert written >= COUNT * MINUTES / 3
    assert rig.kills >= MINUTES / 2
    assert marks[-1][0] < marks[0][0] * 1.3 + 20, f"memory grew: {marks}"
    assert marks[-1][1] <= marks[0][1] + 20, f"handles grew: {marks}"


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_thousand_deploys_survive_kills(kit: ModuleType, tmp_path: Path) -> None:
    """All in flight, the server killed with -9 again and again: none is lost, no disk is written twice."""
    timing = Timing(post_s=6, loader_s=0.3, kernel_s=1, clean_s=2, write_s=20, first_boot_s=5, jitter=0.5)
    many, way = 1000, {"manageable": ("provide", {}), "available": ("deploy", DEPLOY)}
    async with kit.Rig(tmp_path, timing) as rig:
        await rig.enroll(many)
        begun, kill_at, in_flight = time.monotonic(), float("inf"), []
        states: dict[str, int] = {}
        while states.get("active", 0) < many and time.monotonic() - begun < 800:
            states = (await rig.patient("GET", "/api/status"))["nodes"]["by_state"]
            for state, (verb, args) in way.items():
                if states.get(state):
                    wish = {"verb": verb, "where": f"state={state} and wanted=''", "args": args}
                    await rig.patient("POST", "/api/bulk", wish)
                    kill_at = min(kill_at, time.monotonic() + 10)
            if time.monotonic() > kill_at:
                in_flight.append(many - sum(states.get(rest, 0) for rest in ("manageable", "available", "active")))
                await rig.kill()
                kill_at = time.monotonic() + 15
            await asyncio.sleep(0.2)
        written = {box.written for box in rig.rack.boxes.values()}
        faults = (await rig.patient("GET", "/api/status"))["nodes"]["faults"]
    print(f"{rig.kills} kills with {in_flight} in flight, answers after {sorted(rig.answered_s)} s")
    assert states == {"active": many}
    assert (written, faults, rig.unsafe) == ({1}, 0, [])
    assert max(in_flight, default=0) > many * 0.9
