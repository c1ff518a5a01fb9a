"""The next boot can be chosen."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, passed, skipped


@check("bmc-boot-override", "pre-enroll", "pre-deploy")
async def bmc_boot_override(f: Facts) -> Verdict:
    """The next boot can be chosen."""
    if not f.node.bmc_url:
        return skipped("no BMC address")
    plan = await f.world.driver(f.node).get_boot()
    return passed(f"readable; now {plan.device}{', once' if plan.once else ''}")
