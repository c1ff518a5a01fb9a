"""Machines without a BMC go through whole workflows by a person's hand; boots are given up by what was seen of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from baremetal.bmc.base import BootDevice, BootPlan
from baremetal.errors import Refused
from baremetal.model.event import Event, Kind
from baremetal.model.node import State
from baremetal.store import boots, events, nodes
from baremetal.store.boots import Boot
from baremetal.workflows import explain, hand, patience
from baremetal.workflows.passes import Pass

ASKED = {  # what a person is told, and what the machine does then
    "switch it off": lambda box, rack: box.bmc._switch(False),
    "switch it on and have it boot from the network": lambda box, rack: _start(box, BootDevice.PXE),
    "switch it on; it boots from its disk": lambda box, rack: _start(box, BootDevice.DISK),
}


def _start(box: Any, device: BootDevice) -> None:
    box.bmc.boot = BootPlan(device, once=True)
    box.bmc._switch(True)


async def _person(bench: Any, name: str, states: tuple[str, ...]) -> list[str]:
    """Does what explain says until the node rests in one of the states; everything that was asked."""
    told: list[str] = []
    while True:
        node = await bench.when(name, lambda n: hand.asked(n) or (n.wanted is None and n.power_wanted is None))
        if node.wanted is None:
            assert node.state in states, (node.state, node.fault)
            assert node.fault is None
            return told
        said = explain.explain(node, [], None, [], time.time())
        assert f"baremetal node confirm {name}" in said.can[0]
        what = next(words for words in ASKED if words in said.why)
        told.append(what)
        assert len(told) < 8, told
        ASKED[what](bench.rack.boxes[name], bench.rack)
        await _confirm(bench, name)


async def _confirm(bench: Any, name: str) -> None:
    now = bench.con.clock.now()
    try:
        node = await bench.con.write(lambda c: hand.confirm(c, name, "me", now))
    except Refused:
        return  # the machine was heard before the person came back
    bench.con.touched(node.id)


async def test_a_machine_without_bmc_goes_all_the_way_by_hand(bench: Any) -> None:
    bench.rack.add("n1")
    await bench.enroll_body({"name": "n1", "bmc_url": "manual://n1", "macs": [bench.rack.boxes["n1"].mac]})
    await bench.until("n1", "manageable")
    await bench.ask("n1", "provide")
    assert await _person(bench, "n1", ("available",)) == [
        "switch it off",
        "switch it on and have it boot from the network",
    ]
    assert bench.rack.boxes["n1"].wiped == 1
    await bench.ask("n1", "deploy", image="web")
    assert await _person(bench, "n1", ("active",)) == ["switch it off", "switch it on; it boots from its disk"]
    story = [e.stage for e in bench.store.read(lambda c: events.of_node(c, bench.node("n1").id, kinds=["verb"]))]
    assert story.count("confirm") >= 3


async def test_nobody_confirms_what_was_not_asked(bench: Any) -> None:
    await bench.to("n1", "manageable")
    now = bench.con.clock.now()
    with pytest.raises(Refused, match="waits for nobody's hand"):
        await bench.con.write(lambda c: hand.confirm(c, "n1", "me", now))


def _boot(node_id: str, on: float) -> Boot:
    return Boot("b-1", node_id, boots.RAMDISK, "on", created_at=on - 5, powered_at=on)


def _sight(at: float, kind: Kind) -> Event:
    return Event(f"e-{at}-{kind}", at, "n", kind, "x", "boot")


PATIENCE = [  # firmware took, seen at (s after power-on): given up at (s after power-on)
    (None, {}, 300.0),  # never measured: a big server's POST
    (2.0, {}, 90.0),  # a quick one: a minute and a half
    (100.0, {}, 230.0),  # twice as long, and half a minute
    (200.0, {}, 300.0),  # never longer than the setting
    (None, {Kind.DHCP: 250.0}, 490.0),  # seen late: from there on
    (2.0, {Kind.DHCP: 5.0, Kind.KERNEL: 20.0}, 260.0),  # the last sight counts
    (2.0, {Kind.DHCP: 5.0, Kind.SCRIPT: 550.0}, 600.0),  # a machine that starts again and again ends too
]


@pytest.mark.parametrize(("took", "sights", "given_up"), PATIENCE)
async def test_patience_follows_what_was_seen(
    bench: Any, took: float | None, sights: dict[Kind, float], given_up: float
) -> None:
    node = await bench.to("n1", "manageable")
    if took is not None:
        node = await bench.con.write(lambda c: _noted(c, node, took))
    on = 1000.0
    p = Pass(bench.con.world, node, {}, None)
    until, because = patience.until(p, _boot(node.id, on), [_sight(on + at, kind) for kind, at in sights.items()])
    assert until - on == given_up
    assert because


def _noted(conn: Any, node: Any, took: float) -> Any:
    nodes.see(conn, node.id, extra={patience.NOTES: {"post_s": took}})
    return nodes.get(conn, node.id)


async def test_a_boot_that_worked_teaches_how_long_the_firmware_takes(bench: Any) -> None:
    node = await bench.to("n1", "available")
    assert node.state is State.AVAILABLE
    assert node.extra[patience.NOTES]["post_s"] < 5


async def test_a_machine_seen_on_the_wire_costs_its_bmc_no_reset(make_bench: Any) -> None:
    short = {"post_s": 1.0, "boot_s": 0.3, "boot_tries": 3}  # it is to be seen within the first second
    async with make_bench(**short) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        bench.rack.boxes["n1"].faults.add("no-hello")
        await bench.ask("n1", "inspect")
        node = await bench.until("n1", "inspect failed")
        assert node.fault is not None
        assert node.fault.code == "boot-no-hello"
        told = bench.store.read(lambda c: events.of_node(c, node.id, kinds=["bmc"]))
        assert not [e for e in told if e.stage == "reset-bmc"]
        assert len([e for e in told if e.stage == "boot pxe"]) == 3


@pytest.mark.parametrize("by", ["power sync", "power wish"])
async def test_a_failed_node_keeps_its_reason_when_its_bmc_is_well_again(make_bench: Any, by: str) -> None:
    """Found by the soak: `deploy failed` without a fault."""
    async with make_bench(bmc_patience_s=0.1, bmc_reset=False) as bench:
        await bench.to("n1", "available")
        box = bench.rack.boxes["n1"]
        box.faults.add("no-first-boot")
        await bench.ask("n1", "deploy", image="web")
        await bench.when("n1", lambda n: n.step == "deploy.first_boot")
        await bench.ask("n1", "abort")
        await bench.until("n1", "deploy failed")
        await bench.ask("n1", "undeploy")
        box.bmc.faults.add("silent")
        node = await bench.until("n1", "nothing")
        assert node.fault is not None
        assert node.fault.code.startswith("bmc-")
        box.bmc.faults.clear()
        if by == "power sync":
            await bench.con._sync.once()
        else:
            await bench.power("n1", "off")
            node = await bench.when("n1", lambda n: n.power_wanted is None)
        node = bench.node("n1")
        assert node.fault is not None, node
        assert node.fault.brief
