"""Address, user and password are right; asked now."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("bmc-answers", "pre-enroll", "pre-deploy")
async def bmc_answers(f: Facts) -> Verdict:
    """Address, user and password are right; asked now."""
    if not f.node.bmc_url:
        return failed("no BMC address", f"baremetal node set {f.node.name} --bmc ipmi://user@address")
    who = await f.world.driver(f.node).identify()
    return passed(f"{who.vendor or 'unknown vendor'} {who.product or ''}, firmware {who.firmware or 'unknown'}")
