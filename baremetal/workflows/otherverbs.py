"""Adopt, and the reserved steps that go into any workflow."""

from __future__ import annotations

from baremetal.model.node import Power
from baremetal.store import waits
from baremetal.workflows.deployment import restart
from baremetal.workflows.machine import ensure_power
from baremetal.workflows.outcome import Again, Done, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.steps import step


@step("adopt.power", 50, "the BMC answers; the machine itself is not touched")
async def adopt(p: Pass) -> Outcome:
    """A machine that runs already becomes active as it is."""
    if p.node.wanted_args.get("image"):
        p.change(image_id=p.world.images.get(str(p.node.wanted_args["image"])).id)
    return Done(f"power is {await p.power()}")


@step("step.hold", 0, "stand still here until `unhold`")
async def hold(p: Pass) -> Outcome:
    """The runner holds before the next pass; after unhold the step is done."""
    if p.here.get("held"):
        return Done("let go")
    p.note(held=True)
    p.change(held="a hold step")
    return Again(0.0, "held by a hold step")


@step("step.wait", 0, "wait `seconds`", ("seconds",))
async def wait(p: Pass) -> Outcome:
    """Ironic's reserved step."""
    seconds = float((p.work["steps"][p.work["i"]]["args"]).get("seconds", 60))
    return p.wait(waits.SPAN, f"a wait step of {seconds:.0f} s", seconds) or Done(f"waited {seconds:.0f} s")


@step("step.power_on", 0, "ensure on")
async def power_on(p: Pass) -> Outcome:
    """Ensure on."""
    return await ensure_power(p, Power.ON)


@step("step.power_off", 0, "ensure off")
async def power_off(p: Pass) -> Outcome:
    """Ensure off."""
    return await ensure_power(p, Power.OFF)


@step("step.reboot", 0, "ensure off, then ensure on")
async def reboot(p: Pass) -> Outcome:
    """Two halves, the first written down before the second."""
    if p.here.get("restarting") is None and not p.here.get("rebooted"):
        p.note(restarting="off", rebooted=True)
    if p.here.get("restarting"):
        return await restart(p)
    return Done("restarted")
