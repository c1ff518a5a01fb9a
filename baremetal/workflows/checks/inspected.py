"""Cleaning and root device choice rest on the inventory."""

from __future__ import annotations

from baremetal.workflows import inspection
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("inspected", "pre-deploy")
async def inspected(f: Facts) -> Verdict:
    """Cleaning and root device choice rest on the inventory."""
    if f.inventory is None:
        return failed("never inspected", f"baremetal node inspect {f.node.name}")
    return passed(inspection.summary(f.inventory))
