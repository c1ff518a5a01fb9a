"""Errors into faults: the same words, remembered beside the node's state."""

from __future__ import annotations

import dataclasses
import traceback
from typing import Any

from baremetal import lifecycle
from baremetal.errors import BaremetalError
from baremetal.model.fault import Fault
from baremetal.model.node import Node, State


def from_error(exc: BaremetalError, now: float, **evidence: Any) -> Fault:
    """What an error said, as a fault."""
    finer = {k: v for k in ("cause", "stage") if (v := getattr(exc, k, ""))}
    return Fault(exc.code, exc.brief, exc.detail, exc.fix, since=now, evidence={**finer, **evidence})


def from_bug(exc: BaseException, now: float) -> Fault:
    """A pass crashed again and again: show where, so that it can be reported."""
    tail = "".join(traceback.format_exception(exc)[-3:])[-1500:]
    return Fault(
        "internal",
        f"the server's own code failed: {type(exc).__name__}: {exc}",
        detail=tail,
        fix="report it with this text; the same verb tries again",
        since=now,
    )


def from_agent(doc: dict[str, Any] | None, now: float, what: str) -> Fault:
    """What the agent reported; never blank even if it said nothing."""
    if doc and doc.get("code") and doc.get("brief"):
        return dataclasses.replace(Fault.from_json(doc), since=now)
    return Fault(
        "agent-failed",
        f"the agent reported that {what} failed, without a reason",
        detail=str(doc or ""),
        fix="look at the machine's console log, then ask again",
        since=now,
    )


def passes(node: Node) -> bool:
    """Is its fault over as soon as its BMC does as it is told?

    Only of a node that rests where it should: what made a workflow fail stays
    until somebody asks again, so that no failed node is without its reason.
    """
    well = node.state in lifecycle.STABLE and node.state not in (State.ENROLL, State.ERROR)
    return well and node.fault is not None and node.fault.code.startswith(("bmc-", "power-", "no-bmc"))


def merged(old: Fault | None, new: Fault | None) -> Fault | None:
    """The same fault again keeps its first sight and counts up."""
    if new is None or old is None or old.code != new.code:
        return new
    return dataclasses.replace(new, since=old.since, attempts=old.attempts + 1)
