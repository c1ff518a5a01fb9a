"""One node from enrolment to active and back, through the real passes, on a simulated machine."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from baremetal.model.node import State
from baremetal.store import events, ports


async def test_a_node_goes_from_enroll_to_active_and_back(bench: Any) -> None:
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
    assert node.image_id == "sha256:" + "a" * 64
    assert node.config["outcome"] == "applied"

    starts = [plan.device for plan in bench.rack.boxes["n1"].bmc.starts]
    assert [str(d) for d in starts] == ["pxe", "disk"], "one ramdisk boot served inspect, clean and deploy (fast track)"

    await bench.ask("n1", "undeploy")
    node = await bench.until("n1", "available")
    assert (node.state, node.fault, node.image_id) == (State.AVAILABLE, None, None)
    assert bench.rack.boxes["n1"].wiped == 2


async def test_every_event_belongs_and_none_is_blank(bench: Any) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    node = bench.node("n1")
    told = bench.store.read(lambda c: events.of_node(c, node.id))
    assert [e.stage for e in told if e.kind == "state"] == ["verifying", "manageable"]
    assert all(e.stage for e in told)
    assert bench.store.read(lambda c: ports.of_node(c, node.id))[0].mac == bench.rack.boxes["n1"].mac


async def test_a_wrong_password_is_a_fault_and_the_node_stays_enrolled(bench: Any) -> None:
    bench.rack.add("n1", password="other")
    await bench.enroll_body(bench.rack.body("n1"))
    node = await bench.until("n1", "manageable")
    assert node.state is State.ENROLL
    assert node.fault
    assert node.fault.code == "bmc-auth"
    assert node.fault.fix


FAULTS = [  # machine's fault, state it ends in, fault code, what is not waited for long
    ("write-fails", State.DEPLOYING, "image-chunk-corrupt", {}),
    ("config-fails", State.DEPLOYING, "config-script-failed", {}),
    ("no-first-boot", State.DEPLOYING, "first-boot-no-hello", {"first_boot_s": 0.3}),
    ("no-dhcp", State.INSPECTING, "boot-no-dhcp", {"hello_s": 0.3}),
    ("no-loader", State.INSPECTING, "boot-no-loader", {"hello_s": 1.0}),  # DHCP is to be seen within that time
    ("no-kernel", State.INSPECTING, "boot-no-kernel", {"hello_s": 1.0}),
    ("no-hello", State.INSPECTING, "boot-no-hello", {"hello_s": 1.0}),
    ("agent-dies", State.INSPECTING, "agent-lost", {"progress_lost_s": 1.0}),
]


@pytest.mark.parametrize(("fault", "state", "code", "short"), FAULTS)
async def test_what_goes_wrong_is_said_with_what_to_do(
    make_bench: Any, fault: str, state: State, code: str, short: dict[str, float]
) -> None:
    async with make_bench(boot_tries=2, bmc_reset=False) as bench:
        deploys = state is State.DEPLOYING
        await bench.to("n1", "available" if deploys else "manageable")
        world = bench.con.world
        patient, world.policy = world.policy, dataclasses.replace(world.policy, **short)
        bench.rack.boxes["n1"].faults.add(fault)
        await bench.ask("n1", "deploy" if deploys else "inspect", **({"image": "web"} if deploys else {}))
        node = await bench.until("n1", "active" if deploys else "manageable")
        assert node.fault, "a failure always has a fault"
        assert (node.state, node.fault.code) == (state, code)
        assert node.fault.brief
        assert node.fault.fix
        # and the cause gone, the same verb goes through
        bench.rack.boxes["n1"].faults.clear()
        if fault != "agent-dies":  # that it is dead is to be noticed once more: its ramdisk was kept
            world.policy = patient
        again = {"image": "web"} if state is State.DEPLOYING else {}
        await bench.ask("n1", "deploy" if again else "inspect", **again)
        node = await bench.until("n1", "active" if again else "manageable")
        assert node.fault is None


async def test_a_silent_bmc_is_retried_and_then_fails_with_its_words(make_bench: Any) -> None:
    async with make_bench(verify_patience_s=0.2, bmc_pause_s=0.02) as bench:
        bench.rack.add("n1", faults={"silent"})
        await bench.enroll_body(bench.rack.body("n1"))
        node = await bench.until("n1", "manageable")
        assert node.state is State.ENROLL
        assert node.fault
        assert node.fault.code == "bmc-unreachable"
        assert node.fault.attempts > 1


async def test_abort_and_hold(bench: Any) -> None:
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
