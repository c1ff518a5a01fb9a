"""Enters a state: the node says so, and the workflow's steps are in its notebook."""

from __future__ import annotations

from baremetal.lifecycle import Verb
from baremetal.model.event import Kind
from baremetal.model.node import State
from baremetal.workflows import steps
from baremetal.workflows.diskless import is_diskless
from baremetal.workflows.passes import Pass

# Which steps a state runs.
INTERFACE = {
    State.VERIFYING: "verify",
    State.INSPECTING: "inspect",
    State.CLEANING: "clean",
    State.DEPLOYING: "deploy",
    State.DELETING: "release",
    State.ADOPTING: "adopt",
    State.RESCUING: "rescue",
    State.UNRESCUING: "unrescue",
    State.SERVICING: "service",
}


def enter(p: Pass, to: State) -> None:
    """Change the state (or begin it anew), and say so."""
    was, since = p.node.state, p.node.state_since
    p.change(state=to, state_since=p.now)
    spent = int((p.now - since) * 1000) if since else None
    p.event(Kind.STATE, str(to), duration_ms=spent, data={"from": str(was)})


def begin_steps(p: Pass, to: State, verb: Verb) -> None:
    """Write the workflow's steps into the notebook."""
    args = p.node.wanted_args
    without: list[str] = []
    if to is State.CLEANING and verb is not Verb.CLEAN and not p.policy.automated_clean:
        without.append("clean.erase_devices_metadata")
    if to is State.CLEANING and verb is Verb.CLEAN and args.get("steps"):
        without.append("clean.erase_devices_metadata")  # a manual clean does what it was asked
    if to is State.SERVICING and verb is Verb.ABORT:
        without.append("service.boot_ramdisk")  # only the way back is left
    asked = args.get("steps") or []
    if to is State.CLEANING and verb is Verb.UNDEPLOY:
        asked = []
    interface = INTERFACE[to]
    if to is State.DEPLOYING and is_diskless(p.world.images.get(p.work["image"])):
        interface = "diskless"
    plan = steps.plan(interface, asked, without=without)
    p.jot(steps=[s.to_json() for s in plan], i=0)
