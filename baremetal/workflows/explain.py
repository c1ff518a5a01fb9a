"""Where a node is, since when, why, what happens next, and what you can do. Pure: node row first, events after.

The row alone is enough for a true answer; events only add the likely cause of
a boot that hangs, so pruning them costs no truth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from baremetal import lifecycle
from baremetal.lifecycle import Phase
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, Power, State
from baremetal.store.boots import Boot
from baremetal.workflows import causes, hand, steps


@dataclass(frozen=True)
class Likely:
    """What probably stopped it."""

    cause: str
    fix: str
    evidence: str


@dataclass(frozen=True)
class Explanation:
    """An answer for people; `can` are commands. `since` is Unix seconds."""

    node: str
    where: str
    since: float
    why: str
    next: str
    can: list[str] = field(default_factory=list)
    likely: list[Likely] = field(default_factory=list)
    fault: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return asdict(self)


def explain(node: Node, events: Sequence[Event], boot: Boot | None, macs: Sequence[str], now: float) -> Explanation:
    """The node now. `boot` is its live ramdisk or instance boot, `events` what was seen of it."""
    phase = lifecycle.phase(node)
    since = node.wait.since if node.wait else node.state_since
    return Explanation(
        node=node.name,
        where=_where(node, phase),
        since=since,
        why=_seen_by_now(node, phase, events, boot) or _why(node, phase),
        next=_next(node, phase, now),
        can=_can(node, phase),
        likely=_likely(node, phase, events, boot, macs) if _late(node, events, boot, now) else [],
        fault=node.fault.to_json() if node.fault else None,
    )


def _where(node: Node, phase: Phase) -> str:
    name = lifecycle.provision_state(node)
    if node.power_wanted:
        return f"{name}, power {node.power_wanted} under way"
    if node.state in lifecycle.STABLE or node.step is None:
        return name
    todo = node.work.get("steps") or []
    at = f", step {int(node.work.get('i', 0)) + 1} of {len(todo)}" if todo else ""
    return f"{name}{at}: {node.step}"


def _seen_by_now(node: Node, phase: Phase, events: Sequence[Event], boot: Boot | None) -> str:
    """A wait for a hello says what was seen when it began; the events know what was seen since."""
    if phase is not Phase.WAITING or boot is None or boot.purpose != "ramdisk" or boot.hello_at is not None:
        return ""
    seen = [e for e in events if e.time >= boot.created_at and e.kind in _SIGHTS]
    return f"waiting: last seen: {seen[-1].kind} {seen[-1].stage}; the ramdisk must say hello" if seen else ""


def _why(node: Node, phase: Phase) -> str:
    fault = node.fault
    if phase is Phase.HELD:
        return f"it stands still between two steps: {node.held}"
    if phase is Phase.FAILED:
        return fault.brief if fault else "its workflow ended; no fault was recorded (this is a bug: report it)"
    if node.wait:
        trouble = f" (an earlier try: {fault.brief})" if fault else ""
        return f"waiting: {node.wait.because}{trouble}"
    if node.wanted and "ask" in node.work:
        return str(node.work.get("doing") or f"{node.wanted} was asked by {node.wanted_by} and begins")
    if node.wanted:
        trouble = f"; {fault.brief} (try {fault.attempts})" if fault else ""
        doing = str(node.work.get("doing") or "working")
        if fault and fault.brief in doing:
            return f"{doing} (try {fault.attempts})"
        return f"{doing}{trouble}"
    if node.power_wanted:
        trouble = f"; {fault.brief} (try {fault.attempts})" if fault else ""
        doing = {SOFT: "the system was asked to shut down"}.get(
            node.power_wanted, f"power {node.power_wanted} was asked"
        )
        return doing + trouble
    if fault:
        return fault.brief
    if node.maintenance:
        return f"in maintenance: {node.maintenance}; {_AT_REST.get(node.state, 'nothing was asked')}"
    rests = _AT_REST.get(node.state, "at rest; nothing was asked")
    if node.state is State.ACTIVE and node.power is Power.OFF:
        rests = "deployed; the machine is off"
    if node.state is State.AVAILABLE and (kept := (node.extra.get("disks") or {}).get("unerased")):
        rests = f"free for a deploy, but nothing on its disks was erased: {kept}"
    if node.state is State.AVAILABLE and node.retired:
        rests = "clean, but retired: it is not given out again"
    return rests + ("; protected" if node.protected else "")


SOFT = "soft-off"
_SIGHTS = (Kind.DHCP, Kind.LOADER, Kind.SCRIPT, Kind.KERNEL, Kind.HELLO, Kind.SECURITY)
UNSEEN_LATE_S = 45.0  # firmware of small machines is done by then
SEEN_LATE_S = 5.0  # from one stage of a network boot to the next

_AT_REST = {
    State.ENROLL: "enrolled; its BMC was not asked yet",
    State.MANAGEABLE: "its BMC has said who it is; it is not available before it was cleaned",
    State.AVAILABLE: "clean, and free for a deploy",
    State.ACTIVE: "deployed and running",
    State.RESCUE: "the rescue ramdisk runs",
    State.ERROR: "its release failed",
}


def _next(node: Node, phase: Phase, now: float) -> str:
    if phase is Phase.HELD:
        return "nothing, until unhold or abort"
    if node.wait:
        left = max(0.0, node.wait.until - now)
        return f"goes on at once when that comes; the next rung of the ladder in {left:.0f} s"
    if node.wanted:
        todo = steps.load(node.work.get("steps") or [])
        rest = [s.name for s in todo[int(node.work.get("i", 0)) + 1 :]]
        again = f"looks again in {max(0.0, node.wake_at - now):.0f} s" if node.wake_at else "at once"
        return again + (f"; then {', '.join(rest)}" if rest else "")
    if node.power_wanted == SOFT:
        return "power is cut when it does not shut down in time (setting soft_off_s)"
    if node.power_wanted:
        return "its BMC is asked until it is so, or a fault says why not"
    usual = lifecycle.next_verb(node)
    return f"nothing by itself; usually {usual[0]}: {usual[1]}" if usual else "nothing by itself"


def _can(node: Node, phase: Phase) -> list[str]:
    usual = lifecycle.next_verb(node)
    found = sorted(lifecycle.allowed(node), key=lambda v: (usual is None or v is not usual[0], v))
    commands = [_command(str(verb), node) for verb in found]
    if node.fault and _COMMAND.fullmatch(node.fault.fix) and node.fault.fix not in commands:
        commands.insert(0, node.fault.fix)
    commands += _ends(node)
    if not node.bmc_url:
        commands.insert(0, f"baremetal node set {node.name} --bmc ipmi://user@address")
    if node.power_wanted == SOFT:
        commands.insert(0, f"baremetal node power off {node.name}")
    if hand.asked(node):
        commands.insert(0, f"baremetal node confirm {node.name}")
    if phase in (Phase.FAILED, Phase.WAITING) and node.boot_id:
        commands.append(f"baremetal node console {node.name}")
    return commands


# A fix that is a command as it stands; one in prose is shown with the fault.
_COMMAND = re.compile(r"baremetal [^:;,]*[^:;,. ]")


def _ends(node: Node) -> list[str]:
    """How the flags that forbid something are taken away."""
    return [
        f"baremetal node {command}"
        for flag, command in (
            (node.maintenance, f"maintenance {node.name} --off"),
            (node.protected, f"set {node.name} --unprotected"),
            (node.retired, f"set {node.name} --not-retired"),
        )
        if flag
    ]


def _command(verb: str, node: Node) -> str:
    tail = " --image NAME" if verb in ("deploy", "rebuild") else ""
    return f"baremetal node {verb} {node.name}{tail}"


def _late(node: Node, events: Sequence[Event], boot: Boot | None, now: float) -> bool:
    """Is it time to wonder? Not while a machine that was just switched on runs its firmware's own tests."""
    since = (boot.powered_at or boot.created_at) if boot else now
    seen = any(e.time >= since and e.kind in _SIGHTS for e in events)
    patience = max(e.time for e in events if e.kind in _SIGHTS) if seen else since
    return now - patience >= (SEEN_LATE_S if seen else UNSEEN_LATE_S) or node.fault is not None


def _likely(node: Node, phase: Phase, events: Sequence[Event], boot: Boot | None, macs: Sequence[str]) -> list[Likely]:
    """For a boot that is waited for: what was seen last, and what that usually means."""
    if phase is not Phase.WAITING or boot is None or boot.hello_at is not None:
        return []
    if boot.purpose == "instance":
        return [Likely(causes.first_boot_detail(boot, events), "look at the console", f"boot {boot.id}")]
    cause = causes.boot_stopped(boot, events, macs)
    return [Likely(f"so far: {cause.brief}", cause.fix, cause.detail)]
