"""The next boot can be chosen."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, passed


@check("bmc-boot-override", "pre-enroll", "pre-deploy")
async def bmc_boot_override(f: Facts) -> Verdict:
    """The next boot can be chosen."""
    plan = await f.world.driver(f.node).get_boot()
    return passed(f"readable; now {plan.device}{', once' if plan.once else ''}")
