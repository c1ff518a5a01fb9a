"""It arrived."""

from __future__ import annotations

from baremetal import lifecycle
from baremetal.model.node import State
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("active", "post-deploy")
async def active(f: Facts) -> Verdict:
    """It arrived."""
    if f.node.state is not State.ACTIVE:
        return failed(f"state is {lifecycle.provision_state(f.node)!r}", f"baremetal node explain {f.node.name}")
    return passed("active")
