"""Nothing is wrong with it now."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("no-fault", "pre-deploy", "post-deploy")
async def no_fault(f: Facts) -> Verdict:
    """Nothing is wrong with it now."""
    if f.node.fault:
        return failed(f.node.fault.brief, f.node.fault.fix)
    return passed("no fault")
