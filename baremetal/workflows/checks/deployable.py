"""State and flags allow a deploy."""

from __future__ import annotations

from baremetal import lifecycle
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("deployable", "pre-deploy")
async def deployable(f: Facts) -> Verdict:
    """State and flags allow a deploy."""
    if lifecycle.Verb.DEPLOY in lifecycle.allowed(f.node):
        return passed(f"{lifecycle.provision_state(f.node)}")
    step = lifecycle.next_verb(f.node)
    fix = f"baremetal node {step[0]} {f.node.name}: {step[1]}" if step else f"baremetal node explain {f.node.name}"
    return failed(f"a deploy is refused in {lifecycle.provision_state(f.node)!r}", fix)
