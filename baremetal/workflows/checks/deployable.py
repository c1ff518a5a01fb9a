"""State and flags allow a deploy."""

from __future__ import annotations

from baremetal import lifecycle
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("deployable", "pre-deploy")
async def deployable(f: Facts) -> Verdict:
    """State and flags allow a deploy."""
    if lifecycle.Verb.DEPLOY in lifecycle.allowed(f.node):
        return passed(f"{lifecycle.provision_state(f.node)}")
    for flag, why, off in (
        (f.node.maintenance, f"in maintenance: {f.node.maintenance}", f"maintenance {f.node.name} --off"),
        (f.node.retired, "retired", f"set {f.node.name} --not-retired"),
    ):
        if flag:
            return failed(f"a deploy is refused: {why}", f"baremetal node {off}")
    step = lifecycle.next_verb(f.node)
    fix = f"baremetal node {step[0]} {f.node.name}: {step[1]}" if step else f"baremetal node explain {f.node.name}"
    return failed(f"a deploy is refused in {lifecycle.provision_state(f.node)!r}", fix)
