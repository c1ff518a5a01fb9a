"""Power asked for by an operator: on, off, soft-off, reboot. A reboot is "ensure off" then "ensure on"."""

from __future__ import annotations

from baremetal.bmc.base import PowerOp
from baremetal.model.event import Kind
from baremetal.model.node import Power
from baremetal.workflows.machine import ensure_power
from baremetal.workflows.outcome import Again, Done, Outcome
from baremetal.workflows.passes import Pass

TARGETS = ("on", "off", "soft-off", "reboot")


async def carry_out(p: Pass) -> Outcome:
    """One pass towards p.node.power_wanted."""
    match p.node.power_wanted:
        case "on":
            return await ensure_power(p, Power.ON)
        case "soft-off":
            return await _soft_off(p)
        case "reboot":
            return await _reboot(p)
        case _:
            return await ensure_power(p, Power.OFF)


async def _reboot(p: Pass) -> Outcome:
    if p.here.get("was_off"):
        return await ensure_power(p, Power.ON)
    outcome = await ensure_power(p, Power.OFF)
    if not isinstance(outcome, Done):
        return outcome
    p.note(was_off=True)
    return Again(0.0, "off, now on again")


async def _soft_off(p: Pass) -> Outcome:
    """Ask the system nicely once, wait, then switch off hard."""
    if p.by_hand:
        return await ensure_power(p, Power.OFF)
    if await p.power() is Power.OFF:
        return Done("power is off")
    asked = p.here.get("asked_softly")
    if asked is None:
        p.note(asked_softly=p.now)
        await p.press(PowerOp.SOFT)
        return Again(p.policy.soft_off_poll_s, "the system was asked to shut down")
    if p.now - asked < p.policy.soft_off_s:
        return Again(p.policy.soft_off_poll_s, "the system is shutting down")
    if not p.here.get("forced"):
        p.note(forced=True)
        why = f"still on {p.policy.soft_off_s:.0f} s after it was asked to shut down: power is cut"
        p.event(Kind.POWER, "soft-off-forced", outcome="alarm", data={"because": why})
    return await ensure_power(p, Power.OFF)
