"""Soft off: asked, waited for as long as the policy says, then the power is cut and that is told."""

from __future__ import annotations

from typing import Any

import pytest

from baremetal.model.node import Power
from baremetal.store import events


@pytest.mark.parametrize(("deaf", "told"), [(True, ["soft-off-forced"]), (False, [])])
async def test_a_system_that_does_not_hear_the_button(make_bench: Any, deaf: bool, told: list[str]) -> None:
    async with make_bench(soft_off_s=0.05 if deaf else 60.0) as bench:
        await bench.to("n1", "manageable")
        box = bench.rack.boxes["n1"]
        box.bmc.powered = True
        if deaf:
            box.bmc.faults.add("ignores-soft")
        await bench.power("n1", "soft-off")
        node = await bench.when("n1", lambda n: n.power_wanted is None)
        assert (node.power, node.fault, box.bmc.powered) == (Power.OFF, None, False)
        found = bench.store.read(lambda c: events.of_node(c, node.id))
        assert [event.stage for event in found if event.stage == "soft-off-forced"] == told
