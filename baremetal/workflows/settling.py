"""Turns what a pass decided into the node's row: state, wait, fault, next look."""

from __future__ import annotations

import dataclasses
from typing import Any, assert_never

from baremetal import lifecycle
from baremetal.lifecycle import Verb
from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.model.node import State
from baremetal.model.node import Wait as NodeWait
from baremetal.store import allocations, events
from baremetal.workflows import cleaning, faults, idle
from baremetal.workflows.entering import begin_steps, enter
from baremetal.workflows.outcome import Again, Done, Failed, Outcome, Wait
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import drop_order

# Where a failed workflow lands, if not in "… failed" of its own state.
LANDS = {State.VERIFYING: State.ENROLL, State.DELETING: State.ERROR}
# What an adapter keeps of the deployment itself; it ends with the deployment.
OF_INSTANCE = ("instance_info", "instance_uuid", "instance_name", "allocation_uuid")


def settle(p: Pass, outcome: Outcome | None) -> None:
    """Turn the outcome into the node's row: state, wait, fault, next look."""
    match outcome:
        case None:
            p.change(wait=None, wake_at=idle.wake(p))
        case Done():
            _finish(p, outcome.because)
        case Wait():
            _wait(p, outcome)
        case Again():
            p.jot(topic=None, doing=outcome.because)
            p.change(wait=None, wake_at=p.now + outcome.after_s)
            _fault(p, outcome.fault)
        case Failed():
            _fail(p, outcome.fault)
        case _:
            assert_never(outcome)


def _wait(p: Pass, outcome: Wait) -> None:
    same = p.work.get("topic") == outcome.topic and p.node.wait is not None
    since = p.node.wait.since if same and p.node.wait else p.now
    if not same:
        p.event(
            Kind.WAIT,
            outcome.topic.split(" ")[0],
            data={"because": outcome.because, "for_s": round(outcome.until - p.now)},
        )
    p.jot(topic=outcome.topic, doing=outcome.because)
    next_look = min(outcome.until, p.now + outcome.look_s) if outcome.look_s else outcome.until
    p.change(wait=NodeWait(outcome.because, outcome.until, since), wake_at=next_look)
    _fault(p, outcome.fault)


def _fault(p: Pass, fault: Fault | None) -> None:
    """What keeps going wrong. A fault of an earlier try stays in sight until its step is done."""
    if fault is None:
        return
    merged = faults.merged(p.node.fault, fault)
    if p.node.fault is None or p.node.fault.code != fault.code:
        p.event(Kind.FAULT, fault.code, outcome="retry", fault_code=fault.code, data={"brief": fault.brief})
    p.change(fault=merged)


def _with_console(p: Pass, fault: Fault) -> Fault:
    """The fault with the way to what the machine said on its console, if that was recorded."""
    boot_id, since = p.node.boot_id, p.node.wanted_since
    told = p.world.store.read(lambda c: events.of_node(c, p.node.id, since=since, kinds=[str(Kind.CONSOLE)]))
    if not any(e.stage == "recording" and e.boot_id == boot_id for e in told):
        return fault
    link = f"baremetal node console {p.node.name} --boot {boot_id}"
    return dataclasses.replace(fault, evidence={**fault.evidence, "console": link})


def _fail(p: Pass, fault: Fault) -> None:
    """The workflow stops; the node stays where a verb can go on from."""
    fault = _with_console(p, fault)
    p.event(
        Kind.FAULT,
        fault.code,
        outcome="failed",
        fault_code=fault.code,
        data={"brief": fault.brief, "step": p.node.step},
    )
    fault = faults.merged(p.node.fault, fault) or fault
    if p.node.state in lifecycle.STABLE:  # a power wish, or a verb that could not begin
        p.change(fault=fault, power_wanted=None, wanted=None, wait=None, wake_at=None, work={})
        return
    drop_order(p)
    p.change(fault=fault, wanted=None, wait=None, held=None, power_wanted=None)
    p.change(work={"failed_at": p.node.step, "image": p.work.get("image")})
    if p.node.state in LANDS:
        enter(p, LANDS[p.node.state])
    p.change(wake_at=idle.wake(p))


def _finish(p: Pass, because: str) -> None:
    """The workflow is through: on to the next state."""
    wanted = p.node.wanted
    to = lifecycle.after(p.node.state, wanted)
    if p.node.state is State.DELETING:
        p.change(work={}, step=None, wait=None, fault=None, image_id=None, extra=_released(p.node.extra))
        p.also(lambda c: allocations.release(c, p.node.id))
        begin_steps(p, to, Verb.UNDEPLOY)
        enter(p, to)
        p.change(wake_at=p.now)
        return
    if p.node.state is State.CLEANING and to is State.AVAILABLE:
        cleaning.tell_unerased(p)
    enter(p, to)
    p.change(wanted=None, wanted_args={}, wanted_by=None, step=None, wait=None, fault=None, held=None, work={})
    p.change(wake_at=idle.wake(p))


def _released(extra: dict[str, Any]) -> dict[str, Any]:
    """Other tools' notes without those about what was deployed."""
    return {tool: {k: v for k, v in notes.items() if k not in OF_INSTANCE} for tool, notes in extra.items()}
