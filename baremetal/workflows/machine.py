"""Power as passes want it: "ensure off", "ensure on". Looking, acting if needed, looking again."""

from __future__ import annotations

from baremetal.bmc.base import PowerOp
from baremetal.model.fault import Fault
from baremetal.model.node import Power
from baremetal.workflows import hand
from baremetal.workflows.outcome import Again, Done, Failed, Outcome
from baremetal.workflows.passes import Pass


async def ensure_power(p: Pass, wanted: Power) -> Outcome:
    """Done when the BMC shows `wanted`. The time limit is policy.power_confirm_s, counted from the first order."""
    if p.by_hand:
        return hand.power(p, wanted)
    since = f"power_{wanted}_since"
    if await p.power() is wanted:
        p.note(**{since: None})
        return Done(f"power is {wanted}")
    p.store_first()
    first = p.here.get(since)
    if first is not None and p.now - first > p.policy.power_confirm_s:
        p.note(**{since: None})
        return Failed(
            Fault(
                f"power-stays-{'off' if wanted is Power.ON else 'on'}",
                f"{p.node.name}: ordered {wanted} for {p.now - first:.0f} s, the BMC still shows {p.node.power}",
                detail="every order was acknowledged by the BMC",
                fix="look at the machine: power supply, power button lock, fans; then ask again",
                since=first,
            )
        )
    if first is None:
        p.note(**{since: p.now})
    await p.press(PowerOp.ON if wanted is Power.ON else PowerOp.OFF)
    return Again(p.policy.power_poll_s if first is not None else 0.0, f"waiting for power {wanted}")
