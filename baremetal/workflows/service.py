"""Service: in-band work on a deployed machine, its disk left alone; programs of elements, in any workflow."""

from __future__ import annotations

from typing import Any

from baremetal.errors import UsageError
from baremetal.model.event import Kind
from baremetal.model.node import Power
from baremetal.protocol import agent
from baremetal.store.orders import OrderRow
from baremetal.workflows import inspection
from baremetal.workflows.diskless import own_device
from baremetal.workflows.machine import ensure_power
from baremetal.workflows.outcome import Done, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import agent_up, in_ramdisk
from baremetal.workflows.release import off
from baremetal.workflows.steps import step

SCRIPT_S = 3600.0
MARGIN_S = 60.0  # the agent stops a program at its time; we wait a little longer for its report


@step("service.boot_ramdisk", 100, "boot the ramdisk for in-band service steps")
async def boot_ramdisk(p: Pass) -> Outcome:
    """The agent must answer; the disk stays untouched."""
    return await agent_up(p)


@step("service.collect_inventory", 0, "read the hardware again, rules and expectations included")
async def collect_inventory(p: Pass) -> Outcome:
    """As inspection does; asked for only."""
    return await inspection.collect(p)


@step("service.power_off", 40, "end the ramdisk")
async def service_off(p: Pass) -> Outcome:
    """Its token is dead."""
    return await off(p)


@step("service.boot_device", 30, "the machine boots what is deployed again")
async def service_device(p: Pass) -> Outcome:
    """Persistent, read back."""
    return await own_device(p)


@step("service.power_on", 20, "power on into the deployed system")
async def service_on(p: Pass) -> Outcome:
    """Ensure on."""
    return await ensure_power(p, Power.ON)


TAKES = ("script", "args", "timeout_s")
SUMMARY = "run a program that an element put into the ramdisk (ramdisk-steps.d)"


@step("clean.run_script", 0, SUMMARY, TAKES)
async def clean_script(p: Pass) -> Outcome:
    """Operator-defined cleaning."""
    return await run_script(p)


@step("deploy.run_script", 0, SUMMARY, TAKES)
async def deploy_script(p: Pass) -> Outcome:
    """Give it a priority: 81 to 99 is before the image, 61 to 79 after it."""
    return await run_script(p)


@step("service.run_script", 0, SUMMARY, TAKES)
async def service_script(p: Pass) -> Outcome:
    """Operator-defined service."""
    return await run_script(p)


async def run_script(p: Pass) -> Outcome:
    """One order; its exit status decides, its result is kept as an event."""
    args: dict[str, Any] = p.work["steps"][p.work["i"]]["args"]
    name = str(args.get("script") or "")
    if not name:
        raise UsageError("run_script: which script?", fix='args: {"script": "name"}')
    timeout_s = float(args.get("timeout_s") or SCRIPT_S)
    order = {"script": name, "args": args.get("args") or {}, "timeout_s": timeout_s}
    answer = await in_ramdisk(p, agent.RUN_STEP, order, timeout_s + MARGIN_S)
    if not isinstance(answer, OrderRow):
        return answer
    kept = {k: answer.data.get(k) for k in ("script", "result", "seconds", "tail")}
    p.event(Kind.STEP, f"script {name}", source="agent", data=small(kept))
    return Done(f"{name} ended well after {answer.data.get('seconds', '?')} s")


def small(data: dict[str, Any]) -> dict[str, Any]:
    """What fits into an event."""
    if len(str(data)) <= 3000:
        return data
    return {"script": data.get("script"), "seconds": data.get("seconds"), "left_out": "the result is too long"}
