"""A BMC that does not do what it is told: pause and ask again, until patience ends."""

from __future__ import annotations

from baremetal import lifecycle
from baremetal.bmc.faults import BmcAuth, BmcError, BmcLied
from baremetal.model.node import State
from baremetal.workflows import faults
from baremetal.workflows.outcome import Again, Failed, Outcome
from baremetal.workflows.passes import Pass


def bmc_trouble(p: Pass, exc: BmcError) -> Outcome:
    """The ladder for a BMC that does not do what it is told: pause and ask again, until patience ends."""
    fault = faults.from_error(exc, p.now)
    if isinstance(exc, BmcAuth) or not (exc.retry or isinstance(exc, BmcLied)):
        return Failed(fault)
    since = float(p.work.get("bmc_since", p.now))
    patience = p.policy.verify_patience_s if p.node.state is State.VERIFYING else p.policy.bmc_patience_s
    tries = int(p.here.get("bmc_tries", 0)) + 1
    if p.now - since >= patience:
        p.jot(bmc_since=None)
        return Failed(faults.from_error(exc, p.now, tries=tries, for_s=round(p.now - since)))
    p.jot(bmc_since=since)
    p.note(bmc_tries=tries)
    pause = min(
        p.policy.bmc_pause_s * 2 ** (tries - 1), p.policy.bmc_most_pause_s, max(1.0, patience - (p.now - since))
    )
    return Again(pause, f"the BMC: {exc.brief}", fault)


def bmc_well(p: Pass) -> None:
    """A pass went through: an earlier BMC trouble is over."""
    if p.work.get("bmc_since") is not None:
        p.jot(bmc_since=None)
        p.note(bmc_tries=None)
    passing = p.node.fault and (p.node.fault.code.startswith("bmc-") or p.node.fault.code == "internal")
    if passing and p.node.wanted is not None and p.node.state not in lifecycle.STABLE:
        p.change(fault=None)
