"""An unknown power state hides a node from allocation."""

from __future__ import annotations

from baremetal.model.node import Power
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("power-known", "pre-deploy", "post-deploy")
async def power_known(f: Facts) -> Verdict:
    """An unknown power state hides a node from allocation."""
    if f.node.power is Power.UNKNOWN:
        return failed("power state unknown", f"baremetal bmc power {f.node.bmc_url}; then manage the node again")
    return passed(f"power is {f.node.power}")
