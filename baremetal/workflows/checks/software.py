"""Is the node as it should be after (or before) a deploy? Faults, metadata, configuration."""

from __future__ import annotations

from baremetal import lifecycle
from baremetal.model.node import State
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped


@check("no-fault", "pre-deploy", "post-deploy")
async def no_fault(f: Facts) -> Verdict:
    """Nothing is wrong with it now."""
    if f.node.fault:
        return failed(f.node.fault.brief, f.node.fault.fix)
    return passed("no fault")


@check("deployable", "pre-deploy")
async def deployable(f: Facts) -> Verdict:
    """State and flags allow a deploy."""
    if lifecycle.Verb.DEPLOY in lifecycle.allowed(f.node):
        return passed(f"{lifecycle.provision_state(f.node)}")
    step = lifecycle.next_verb(f.node)
    fix = f"baremetal node {step[0]} {f.node.name}: {step[1]}" if step else f"baremetal node explain {f.node.name}"
    return failed(f"a deploy is refused in {lifecycle.provision_state(f.node)!r}", fix)


@check("active", "post-deploy")
async def active(f: Facts) -> Verdict:
    """It arrived."""
    if f.node.state is not State.ACTIVE:
        return failed(f"state is {lifecycle.provision_state(f.node)!r}", f"baremetal node explain {f.node.name}")
    return passed("active")


@check("configured", "post-deploy")
async def configured(f: Facts) -> Verdict:
    """The newest metadata is applied."""
    told = f.node.config
    if not told:
        return skipped("no configuration report: the image has no agent of ours, or it was not heard yet")
    if told.get("outcome") not in ("applied", "unchanged"):
        return failed(f"last report: {told.get('outcome')}", f"baremetal node events {f.node.name}")
    if f.generation is not None and told.get("generation") != f.generation:
        return failed(
            f"applied generation {told.get('generation')}, wanted {f.generation}", "wait, or look at its agent's log"
        )
    return passed(f"generation {told.get('generation')}")
