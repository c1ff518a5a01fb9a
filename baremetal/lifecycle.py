"""The life of a node as one table: Ironic's states, verbs and rules, as data.

What may be asked of a node, what it leads to, why something is refused, and how
state, fault and wait are said in Ironic's own strings. Decides only; the passes
in workflows/ do the work, docs/explanation/lifecycle.md is made from these tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from baremetal.errors import Refused, UsageError
from baremetal.model.node import Node, State


class Phase(StrEnum):
    """How a node stands in its state."""

    STABLE = "stable"
    WORKING = "working"
    WAITING = "waiting"
    HELD = "held"
    FAILED = "failed"


class Verb(StrEnum):
    """What can be asked of a node's life (power is asked separately)."""

    MANAGE = "manage"
    PROVIDE = "provide"
    INSPECT = "inspect"
    CLEAN = "clean"
    DEPLOY = "deploy"
    UNDEPLOY = "undeploy"
    REBUILD = "rebuild"
    RESCUE = "rescue"
    UNRESCUE = "unrescue"
    ADOPT = "adopt"
    SERVICE = "service"
    ABORT = "abort"
    HOLD = "hold"
    UNHOLD = "unhold"


# Ironic's spellings of the same verbs, accepted everywhere a verb is.
ALIASES = {"active": Verb.DEPLOY, "deleted": Verb.UNDEPLOY}

STABLE = frozenset({State.ENROLL, State.MANAGEABLE, State.AVAILABLE, State.ACTIVE, State.RESCUE, State.ERROR})

# (state, phase) -> Ironic's provision_state. Phases Ironic does not have fall back to the working name.
IRONIC_NAMES: dict[tuple[State, Phase], str] = {
    (State.INSPECTING, Phase.WAITING): "inspect wait",
    (State.INSPECTING, Phase.FAILED): "inspect failed",
    (State.CLEANING, Phase.WAITING): "clean wait",
    (State.CLEANING, Phase.HELD): "clean hold",
    (State.CLEANING, Phase.FAILED): "clean failed",
    (State.DEPLOYING, Phase.WAITING): "wait call-back",
    (State.DEPLOYING, Phase.HELD): "deploy hold",
    (State.DEPLOYING, Phase.FAILED): "deploy failed",
    (State.DELETING, Phase.FAILED): "error",
    (State.ADOPTING, Phase.FAILED): "adopt failed",
    (State.RESCUING, Phase.WAITING): "rescue wait",
    (State.RESCUING, Phase.FAILED): "rescue failed",
    (State.UNRESCUING, Phase.FAILED): "unrescue failed",
    (State.SERVICING, Phase.WAITING): "service wait",
    (State.SERVICING, Phase.HELD): "service hold",
    (State.SERVICING, Phase.FAILED): "service failed",
}


@dataclass(frozen=True)
class Rule:
    """In `at` (an Ironic state name) `verb` leads to `to`. `ours`: Ironic has no such rule."""

    at: str
    verb: Verb
    to: State
    ours: str = ""


def _rules() -> tuple[Rule, ...]:
    short = "passes are short here, so a working node can be stopped as well as a waiting one"
    rows: list[tuple[str, Verb, State, str]] = [
        ("enroll", Verb.MANAGE, State.VERIFYING, ""),
        ("manageable", Verb.MANAGE, State.VERIFYING, "asks the BMC again who it is"),
        ("manageable", Verb.INSPECT, State.INSPECTING, ""),
        ("manageable", Verb.PROVIDE, State.CLEANING, ""),
        ("manageable", Verb.CLEAN, State.CLEANING, ""),
        ("manageable", Verb.ADOPT, State.ADOPTING, ""),
        ("inspect wait", Verb.ABORT, State.INSPECTING, ""),
        ("inspecting", Verb.ABORT, State.INSPECTING, short),
        ("inspect failed", Verb.MANAGE, State.MANAGEABLE, ""),
        ("inspect failed", Verb.INSPECT, State.INSPECTING, ""),
        ("available", Verb.DEPLOY, State.DEPLOYING, ""),
        ("available", Verb.MANAGE, State.MANAGEABLE, ""),
        ("deploying", Verb.ABORT, State.DEPLOYING, short),
        ("deploying", Verb.HOLD, State.DEPLOYING, "stands still before its next step"),
        ("wait call-back", Verb.ABORT, State.DEPLOYING, ""),
        ("wait call-back", Verb.HOLD, State.DEPLOYING, "stands still before its next step"),
        ("wait call-back", Verb.UNDEPLOY, State.DELETING, ""),
        ("deploy hold", Verb.UNHOLD, State.DEPLOYING, ""),
        ("deploy hold", Verb.ABORT, State.DEPLOYING, ""),
        ("deploy failed", Verb.DEPLOY, State.DEPLOYING, ""),
        ("deploy failed", Verb.REBUILD, State.DEPLOYING, ""),
        ("deploy failed", Verb.UNDEPLOY, State.DELETING, ""),
        ("active", Verb.REBUILD, State.DEPLOYING, ""),
        ("active", Verb.UNDEPLOY, State.DELETING, ""),
        ("active", Verb.RESCUE, State.RESCUING, ""),
        ("active", Verb.SERVICE, State.SERVICING, ""),
        ("error", Verb.REBUILD, State.DEPLOYING, ""),
        ("error", Verb.UNDEPLOY, State.DELETING, ""),
        ("cleaning", Verb.ABORT, State.CLEANING, short),
        ("cleaning", Verb.HOLD, State.CLEANING, "stands still before its next step"),
        ("clean wait", Verb.ABORT, State.CLEANING, ""),
        ("clean wait", Verb.HOLD, State.CLEANING, "stands still before its next step"),
        ("clean hold", Verb.UNHOLD, State.CLEANING, ""),
        ("clean hold", Verb.ABORT, State.CLEANING, ""),
        ("clean failed", Verb.MANAGE, State.MANAGEABLE, ""),
        ("adopt failed", Verb.ADOPT, State.ADOPTING, ""),
        ("adopt failed", Verb.MANAGE, State.MANAGEABLE, ""),
        ("rescuing", Verb.ABORT, State.RESCUING, short),
        ("rescue wait", Verb.ABORT, State.RESCUING, ""),
        ("rescue wait", Verb.UNDEPLOY, State.DELETING, ""),
        ("rescue", Verb.RESCUE, State.RESCUING, ""),
        ("rescue", Verb.UNRESCUE, State.UNRESCUING, ""),
        ("rescue", Verb.UNDEPLOY, State.DELETING, ""),
        ("rescue failed", Verb.RESCUE, State.RESCUING, ""),
        ("rescue failed", Verb.UNRESCUE, State.UNRESCUING, ""),
        ("rescue failed", Verb.UNDEPLOY, State.DELETING, ""),
        ("unrescue failed", Verb.RESCUE, State.RESCUING, ""),
        ("unrescue failed", Verb.UNRESCUE, State.UNRESCUING, ""),
        ("unrescue failed", Verb.UNDEPLOY, State.DELETING, ""),
        ("servicing", Verb.ABORT, State.SERVICING, short),
        ("service wait", Verb.ABORT, State.SERVICING, ""),
        ("service wait", Verb.HOLD, State.SERVICING, "stands still before its next step"),
        ("service wait", Verb.UNDEPLOY, State.DELETING, ""),
        ("service hold", Verb.SERVICE, State.SERVICING, ""),
        ("service hold", Verb.UNHOLD, State.SERVICING, ""),
        ("service hold", Verb.ABORT, State.SERVICING, ""),
        ("service failed", Verb.SERVICE, State.SERVICING, ""),
        ("service failed", Verb.RESCUE, State.RESCUING, ""),
        ("service failed", Verb.UNDEPLOY, State.DELETING, ""),
        ("service failed", Verb.ABORT, State.SERVICING, "the machine boots what is deployed"),
    ]
    return tuple(Rule(*row) for row in rows)


RULES: tuple[Rule, ...] = _rules()

# Where a workflow leads when its passes are done. Cleaning depends on who asked for it: see after().
DONE: dict[State, State] = {
    State.VERIFYING: State.MANAGEABLE,
    State.INSPECTING: State.MANAGEABLE,
    State.CLEANING: State.AVAILABLE,
    State.DEPLOYING: State.ACTIVE,
    State.DELETING: State.CLEANING,
    State.ADOPTING: State.ACTIVE,
    State.RESCUING: State.RESCUE,
    State.UNRESCUING: State.ACTIVE,
    State.SERVICING: State.ACTIVE,
}

# Verbs that a flag forbids, and the reason given.
MAINTENANCE_FORBIDS = frozenset({Verb.DEPLOY, Verb.REBUILD, Verb.PROVIDE, Verb.CLEAN, Verb.RESCUE, Verb.SERVICE})
PROTECTED_FORBIDS = frozenset({Verb.UNDEPLOY, Verb.REBUILD})
RETIRED_FORBIDS = frozenset({Verb.PROVIDE, Verb.DEPLOY})
# Verbs that do not wait for a running workflow to end: they steer it.
STEERING = frozenset({Verb.ABORT, Verb.HOLD, Verb.UNHOLD})
# What a deployed node loses its data by: never advised as a step on the way to something else.
TAKES_DATA = frozenset({Verb.REBUILD, Verb.UNDEPLOY})
# States in which a node's record may be deleted (Ironic's rule).
DELETABLE = frozenset({"enroll", "manageable", "available", "adopt failed"})

# What one does next, normally, and why.
NEXT: dict[str, tuple[Verb, str]] = {
    "enroll": (Verb.MANAGE, "the BMC must say who it is before anything else"),
    "manageable": (Verb.PROVIDE, "a clean that is seen to succeed makes it available"),
    "inspect failed": (Verb.INSPECT, "try again once the cause is gone"),
    "available": (Verb.DEPLOY, "it is clean and waits for an image"),
    "deploy failed": (Verb.DEPLOY, "deploying again starts from the ramdisk"),
    "clean failed": (Verb.MANAGE, "back to manageable, then provide again"),
    "adopt failed": (Verb.ADOPT, "try again once the cause is gone"),
    "rescue": (Verb.UNRESCUE, "back to the deployed system"),
    "rescue failed": (Verb.UNRESCUE, "back to the deployed system"),
    "unrescue failed": (Verb.UNRESCUE, "try again once the cause is gone"),
    "service failed": (Verb.ABORT, "back to the deployed system"),
    "error": (Verb.UNDEPLOY, "release it again once the cause is gone"),
    "deploy hold": (Verb.UNHOLD, "go on with the next step"),
    "clean hold": (Verb.UNHOLD, "go on with the next step"),
    "service hold": (Verb.UNHOLD, "go on with the next step"),
}


def phase(node: Node) -> Phase:
    """How the node stands in its state: a transient state with nothing wanted any more has failed."""
    if node.state in STABLE:
        return Phase.STABLE
    if node.wanted is None:
        return Phase.FAILED
    if node.held:
        return Phase.HELD
    return Phase.WAITING if node.wait else Phase.WORKING


def ironic_name(state: State, in_phase: Phase) -> str:
    """Ironic's provision_state."""
    return IRONIC_NAMES.get((state, in_phase), str(state))


def is_damaged(node: Node) -> bool:
    """Is this what could be read of a broken record? Nothing may be decided by it."""
    return node.fault is not None and node.fault.code == "record-damaged"


def waits_to_begin(node: Node) -> bool:
    """Was a verb accepted that has not begun? It can be taken back, whatever it is."""
    return node.wanted is not None and (node.state in STABLE or "ask" in node.work)


def provision_state(node: Node) -> str:
    """The node's state as Ironic says it."""
    return ironic_name(node.state, phase(node))


def target_state(node: Node) -> State | None:
    """Where the running workflow leads in the end (Ironic's target_provision_state)."""
    if node.wanted is None or node.state in STABLE:
        return None
    if node.state is State.DELETING:
        return State.AVAILABLE
    return after(node.state, node.wanted)


def after(state: State, wanted: str | None) -> State:
    """The state that follows when the passes of `state` are done.

    A manual clean returns to manageable, every other clean makes the node available.
    """
    if state is State.CLEANING and wanted == Verb.CLEAN:
        return State.MANAGEABLE
    return DONE[state]


def parse_verb(text: str) -> Verb:
    """A verb by its name or by Ironic's."""
    if text in ALIASES:
        return ALIASES[text]
    try:
        return Verb(text)
    except ValueError:
        known = ", ".join(v.value for v in Verb)
        raise UsageError(f"{text!r} is not a verb", fix=f"verbs: {known}") from None


def allowed(node: Node) -> dict[Verb, State]:
    """What may be asked of this node now, and what each leads to."""
    if is_damaged(node):
        return {}
    if waits_to_begin(node):
        return {Verb.ABORT: node.state}
    name = provision_state(node)
    found = {rule.verb: rule.to for rule in RULES if rule.at == name}
    return {verb: to for verb, to in found.items() if not _forbidden(node, verb)}


def check(node: Node, verb: Verb, *, now: float = 0.0) -> State:
    """Where `verb` leads from here; Refused says why not and what is allowed instead."""
    if is_damaged(node) and node.fault:
        raise Refused(node.fault.brief, detail=node.fault.detail, fix=node.fault.fix)
    name = provision_state(node)
    instead = ", ".join(sorted(allowed(node))) or "nothing but waiting"
    if waits_to_begin(node):
        if verb is Verb.ABORT:
            return node.state
        raise Refused(
            f"{node.name}: {node.wanted} was asked for by {node.wanted_by or 'somebody'} "
            f"{_ago(now - node.wanted_since)} and {node.work.get('doing') or 'begins now'}",
            fix=f"wait for it: baremetal node show {node.name}, or take it back: baremetal node abort {node.name}",
        )
    flag = _forbidden(node, verb)
    if flag:
        raise Refused(f"{node.name}: {verb} is refused: {flag[0]}", fix=flag[1])
    for rule in RULES:
        if rule.at == name and rule.verb is verb:
            return rule.to
    raise Refused(
        f"{node.name} is {name!r}: {verb} is not possible there" + _busy(node, now),
        detail=f"allowed now: {instead}",
        fix=_first_step(name, verb, node.name),
    )


def next_verb(node: Node) -> tuple[Verb, str] | None:
    """What an operator normally asks next, and why; None when nothing is needed or possible."""
    step = NEXT.get(provision_state(node))
    return step if step and step[0] in allowed(node) else None


def _busy(node: Node, now: float) -> str:
    if node.wanted is None or node.state in STABLE:
        return ""
    return f" ({node.wanted} by {node.wanted_by or 'somebody'} since {_ago(now - node.wanted_since)})"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0, seconds):.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.1f} h ago"


def _forbidden(node: Node, verb: Verb) -> tuple[str, str] | None:
    if node.maintenance and verb in MAINTENANCE_FORBIDS:
        return f"in maintenance ({node.maintenance})", f"baremetal node maintenance {node.name} --off"
    if node.protected and verb in PROTECTED_FORBIDS:
        return "protected", f"baremetal node set {node.name} --unprotected"
    if node.retired and verb in RETIRED_FORBIDS:
        return "retired", f"baremetal node set {node.name} --not-retired"
    return None


def _first_step(name: str, verb: Verb, node: str) -> str:
    """One verb that leads to a state in which the wish is possible, if there is one; never one that takes data away."""
    if verb in STEERING:  # nothing is under way: nothing should be begun only to be stopped
        return f"baremetal node explain {node}"
    wanted_at = {rule.at for rule in RULES if rule.verb is verb}
    for rule in RULES:
        ends = {str(rule.to), str(DONE.get(rule.to, rule.to))}
        if rule.at == name and rule.verb not in STEERING | TAKES_DATA and ends & wanted_at:
            return f"baremetal node {rule.verb} {node} first"
    return f"baremetal node explain {node}"
