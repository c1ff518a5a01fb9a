"""Every other verb, flag and background job, on a simulated machine."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from baremetal.errors import Refused
from baremetal.model.node import Power, State
from baremetal.store import StoreError, boots, events, nodes
from baremetal.workflows.simulated import Timing


async def test_rescue_and_back_leaves_the_disk_alone(bench: Any) -> None:
    await bench.to("n1", "active")
    box = bench.rack.boxes["n1"]
    disk = box.disk
    await bench.ask("n1", "rescue", password="one-time word")
    node = await bench.until("n1", "rescue")
    assert (node.state, node.fault) == (State.RESCUE, None)
    await bench.ask("n1", "unrescue")
    node = await bench.until("n1", "active")
    assert (node.state, node.fault) == (State.ACTIVE, None)
    assert (box.disk, str(box.bmc.starts[-1].device)) == (disk, "disk")


async def test_service_runs_its_steps_and_returns_to_the_system(bench: Any) -> None:
    await bench.to("n1", "active")
    wait = {"interface": "step", "step": "wait", "args": {"seconds": 0.05}, "priority": 60}
    await bench.ask("n1", "service", steps=[wait])
    node = await bench.until("n1", "active")
    assert (node.state, node.fault) == (State.ACTIVE, None)
    told = bench.store.read(lambda c: events.of_node(c, node.id, kinds=["step"]))
    assert "step.wait" in [e.stage for e in told]
    assert [str(p.device) for p in bench.rack.boxes["n1"].bmc.starts][-2:] == ["pxe", "disk"]


async def test_rebuild_writes_again_without_a_clean(bench: Any) -> None:
    await bench.to("n1", "active")
    box = bench.rack.boxes["n1"]
    wiped = box.wiped
    await bench.ask("n1", "rebuild")
    node = await bench.until("n1", "active")
    assert (node.state, node.fault, box.written, box.wiped) == (State.ACTIVE, None, 2, wiped)


async def test_adopt_takes_a_running_machine_as_it_is(bench: Any) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "adopt", image="web")
    node = await bench.until("n1", "active")
    assert (node.state, node.image_id) == (State.ACTIVE, "sha256:" + "a" * 64)
    assert bench.rack.boxes["n1"].bmc.starts == [], "the machine was not touched"


async def test_a_hold_step_stands_still_until_unhold(bench: Any) -> None:
    await bench.to("n1", "available")
    hold = {"interface": "step", "step": "hold", "priority": 70}
    await bench.ask("n1", "deploy", image="web", steps=[hold])
    node = await bench.when("n1", lambda n: n.held is not None)
    assert (node.state, node.step, node.fault) == (State.DEPLOYING, "step.hold", None)
    assert bench.rack.boxes["n1"].written == 1, "held after the image was written"
    await bench.ask("n1", "unhold")
    node = await bench.until("n1", "active")
    assert (node.state, node.fault) == (State.ACTIVE, None)


async def test_hold_stops_before_the_next_step_and_abort_ends_it(bench: Any) -> None:
    bench.rack.timing = Timing(write_s=0.3)
    await bench.to("n1", "available")
    await bench.ask("n1", "deploy", image="web")
    await bench.when("n1", lambda n: n.step == "deploy.write_image")
    await bench.ask("n1", "hold")
    node = await bench.when("n1", lambda n: n.held is not None)
    assert "test" in node.held
    await bench.ask("n1", "abort")
    node = await bench.until("n1", "active")
    assert node.fault.code == "aborted"
    with pytest.raises(Refused):
        await bench.ask("n1", "unhold")


POWER = [("on", Power.ON), ("reboot", Power.ON), ("soft-off", Power.OFF), ("on", Power.ON), ("off", Power.OFF)]


async def test_power_as_asked_and_a_reboot_is_off_then_on(bench: Any) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    for target, seen in POWER:
        await bench.power("n1", target)
        node = await bench.when("n1", lambda n: n.power_wanted is None)
        assert (node.power, node.fault) == (seen, None), target
    assert len(bench.rack.boxes["n1"].bmc.starts) == 3


async def test_a_machine_that_does_not_obey_is_a_fault(make_bench: Any) -> None:
    async with make_bench(power_confirm_s=0.1) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        bench.rack.boxes["n1"].bmc.faults.add("ignores-power")
        await bench.power("n1", "on")
        node = await bench.when("n1", lambda n: n.fault is not None)
        assert (node.state, node.fault.code, node.power_wanted) == (State.MANAGEABLE, "power-stays-off", None)
        bench.rack.boxes["n1"].bmc.faults.clear()
        await bench.power("n1", "on")
        node = await bench.when("n1", lambda n: n.power_wanted is None)
        assert (node.fault, node.power) == (None, Power.ON)


async def test_a_boot_device_that_is_forgotten_is_a_fault(make_bench: Any) -> None:
    async with make_bench(bmc_patience_s=0.1) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        bench.rack.boxes["n1"].bmc.faults.add("forgets-boot")
        await bench.ask("n1", "inspect")
        node = await bench.until("n1", "manageable")
        assert (node.state, node.fault.code) == (State.INSPECTING, "bmc-lied")


async def test_power_drift_is_reported_and_not_corrected(bench: Any) -> None:
    node = await bench.to("n1", "active")
    bench.rack.boxes["n1"].bmc.order(False)
    assert await bench.con._sync.once() == 1
    node = bench.node("n1")
    assert node.power is Power.OFF
    drift = [e for e in bench.store.read(lambda c: events.of_node(c, node.id)) if e.outcome == "drift"]
    assert [e.stage for e in drift] == ["off"]
    assert not bench.rack.boxes["n1"].bmc.powered


async def test_power_drift_is_corrected_if_the_policy_says_so(make_bench: Any) -> None:
    async with make_bench(force_power=True) as bench:
        await bench.to("n1", "active")
        bench.rack.boxes["n1"].bmc.order(False)
        await bench.con._sync.once()
        await bench.when("n1", lambda n: n.power is Power.ON and n.power_wanted is None)
        assert bench.rack.boxes["n1"].bmc.powered


async def test_a_bmc_gone_silent_is_a_fault_at_rest_and_heals(bench: Any) -> None:
    await bench.to("n1", "active")
    bench.rack.boxes["n1"].bmc.faults.add("silent")
    for _ in range(3):
        await bench.con._sync.once()
    node = bench.node("n1")
    assert (node.state, node.fault.code, node.power) == (State.ACTIVE, "bmc-unreachable", Power.UNKNOWN)
    bench.rack.boxes["n1"].bmc.faults.clear()
    await bench.con._sync.once()
    node = bench.node("n1")
    assert (node.fault, node.power) == (None, Power.ON)


async def test_a_dead_bmc_holds_up_no_other_nor_the_end(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baremetal.engine.embedded.STOP_S", 0.1)
    async with make_bench(bmc_patience_s=30.0) as bench:
        await bench.enroll("n1")
        await bench.enroll("n2")
        await bench.until("n1", "manageable")
        await bench.until("n2", "manageable")
        bench.rack.boxes["n1"].bmc.faults.add("hung")
        await bench.ask("n1", "inspect")
        await bench.ask("n2", "inspect")
        node = await bench.until("n2", "manageable")
        assert node.fault is None


async def test_an_idle_ramdisk_is_switched_off(make_bench: Any) -> None:
    async with make_bench(idle_ramdisk_s=1.0) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        await bench.ask("n1", "inspect")
        await bench.until("n1", "manageable")
        assert bench.rack.boxes["n1"].bmc.powered
        node = await bench.when("n1", lambda n: n.power is Power.OFF)
        assert not bench.store.read(lambda c: boots.live(c, node.id))


async def test_without_fast_track_each_workflow_ends_powered_off(make_bench: Any) -> None:
    async with make_bench(fast_track=False) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        await bench.ask("n1", "inspect")
        node = await bench.until("n1", "manageable")
        assert (node.fault, node.power) == (None, Power.OFF)
        await bench.ask("n1", "provide")
        node = await bench.until("n1", "available")
        assert (node.fault, node.power) == (None, Power.OFF)
        assert len(bench.rack.boxes["n1"].bmc.starts) == 2


async def test_limits_let_the_rest_wait_in_their_state(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baremetal.workflows.runner.LIMIT_PAUSE_S", 0.05)
    async with make_bench(inspect_limit=1) as bench:
        for name in ("n1", "n2"):
            await bench.enroll(name)
            await bench.until(name, "manageable")
        node = await bench.stand_in_line(inspect_s=0.3)
        assert (node.state, node.wanted) == (State.MANAGEABLE, "inspect")
        await bench.until("n1", "manageable")
        node = await bench.until("n2", "manageable")
        assert node.fault is None


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_clock_jump_ends_no_wait_and_hangs_none(make_bench: Any, jump_s: float) -> None:
    async with make_bench(hello_s=600.0) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        bench.rack.boxes["n1"].faults.add("no-hello")
        await bench.ask("n1", "inspect")
        node = await bench.when("n1", lambda n: n.wait is not None)
        left = node.wait.until - bench.con.clock.now()
        wall = bench.con.clock._wall
        bench.con.clock._wall = lambda: wall() + jump_s
        await bench.con._follow_clock()
        node = bench.node("n1")
        assert abs((node.wait.until - bench.con.clock.now()) - left) < 5
        await asyncio.sleep(0.1)
        assert bench.node("n1").fault is None


async def test_corrupt_rows_stop_nobody_else(bench: Any) -> None:
    await bench.enroll("n1")
    await bench.enroll("n2")
    await bench.until("n1", "manageable")
    await bench.until("n2", "manageable")
    broken = bench.node("n1").id
    await bench.store.write(
        lambda c: nodes.see(c, broken, work={"steps": 7, "i": "x"}, wanted="inspect", state="inspecting")
    )
    bench.con.engine.wake(broken)
    await bench.ask("n2", "inspect")
    node = await bench.until("n2", "manageable")
    assert node.fault is None
    node = await bench.when("n1", lambda n: n.fault is not None)
    assert node.fault.code == "internal"


async def test_an_upgrade_that_does_not_know_a_step_says_so(bench: Any) -> None:
    await bench.enroll("n1")
    node = await bench.until("n1", "manageable")
    work = {"steps": [{"name": "inspect.telepathy", "priority": 5, "args": {}}], "i": 0}
    await bench.store.write(lambda c: nodes.see(c, node.id, work=work, wanted="inspect", state="inspecting"))
    bench.con.engine.wake(node.id)
    node = await bench.when("n1", lambda n: n.fault is not None)
    assert node.fault.code == "step-unknown"


async def test_a_clean_that_forgets_a_disk_does_not_make_a_node_available(bench: Any) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    rack = bench.rack
    honest = rack.tell

    async def lying(kind: str, node: str | None, **body: Any) -> None:
        if kind == "report" and body["report"]["data"].get("disks"):
            body = {**body, "report": {**body["report"], "data": {"disks": []}}}
        await honest(kind, node, **body)

    rack.tell = lying
    await bench.ask("n1", "provide")
    node = await bench.until("n1", "available")
    assert (node.state, node.fault.code) == (State.CLEANING, "clean-incomplete")
    rack.tell = honest
    await bench.ask("n1", "manage")
    node = await bench.until("n1", "manageable")
    assert (node.state, node.fault) == (State.MANAGEABLE, None)


async def test_events_of_a_run_have_no_gaps(bench: Any) -> None:
    """Each step begins and ends; each state is entered once; nothing is blank."""
    node = await bench.to("n1", "active")
    told = bench.store.read(lambda c: events.of_node(c, node.id))
    begun = [e.stage for e in told if e.kind == "step" and e.outcome == "begin"]
    ended = [e.stage for e in told if e.kind == "step" and e.outcome == "ok" and e.stage in begun]
    assert begun == ended
    states = [e.stage for e in told if e.kind == "state"]
    assert states == ["verifying", "manageable", "cleaning", "available", "deploying", "active"]
    assert all(dataclasses.asdict(e)["source"] for e in told)


async def test_a_database_that_is_away_fails_no_node(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked, full, gone: the pass is tried again, the node has no fault of ours."""
    monkeypatch.setattr("baremetal.engine.embedded.CRASH_PAUSE_S", 0.05)
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    honest, failures = bench.store.write, [3]

    async def away(write: Any) -> Any:
        if failures[0] and "Runner" in getattr(write, "__qualname__", ""):
            failures[0] -= 1
            raise StoreError("database: database is locked")
        return await honest(write)

    monkeypatch.setattr(bench.store, "write", away)
    await bench.ask("n1", "inspect")
    node = await bench.until("n1", "manageable")
    assert (node.fault, failures) == (None, [0])
    assert bench.con.engine.stats().crashes == 3
