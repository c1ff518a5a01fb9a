"""Deleting (release) and what every workflow ends with: the ramdisk at rest, or the machine off."""

from __future__ import annotations

from baremetal.model.node import Power
from baremetal.store import boots
from baremetal.workflows import bootvia
from baremetal.workflows.machine import ensure_power
from baremetal.workflows.outcome import Done, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import answers
from baremetal.workflows.steps import step


async def rest(p: Pass) -> Outcome:
    """With fast track the ramdisk stays for the next verb; without, the machine is powered off."""
    if p.policy.fast_track and p.ramdisk and answers(p, p.ramdisk):
        return Done("the ramdisk stays up for the next verb")
    outcome = await off(p)
    if isinstance(outcome, Done):
        await bootvia.tidy(p)
    return outcome


async def off(p: Pass) -> Outcome:
    """Machine off, then the tokens of its ramdisk dead."""
    outcome = await ensure_power(p, Power.OFF)
    if isinstance(outcome, Done) and p.ramdisk:
        p.end_boot(boots.RAMDISK)
    return outcome


@step("release.revoke", 100, "the deployed system's token and metadata end here")
async def revoke(p: Pass) -> Outcome:
    """From now on the old system is a stranger."""
    p.end_boot(boots.INSTANCE)
    p.change(config={})
    return Done("its agent's token is dead")


@step("release.power_off", 50, "stop the deployed system")
async def power_off(p: Pass) -> Outcome:
    """Hard off: it is wiped next."""
    if p.ramdisk and answers(p, p.ramdisk) and p.policy.fast_track:
        return Done("the ramdisk runs already")
    return await off(p)
