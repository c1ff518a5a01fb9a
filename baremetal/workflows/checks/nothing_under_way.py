"""Not needed (passes go on after a restart), but quieter."""

from __future__ import annotations

from baremetal.store import nodes
from baremetal.workflows.checks import Facts, Verdict, check, passed


@check("nothing-under-way", "pre-upgrade")
async def nothing_under_way(f: Facts) -> Verdict:
    """Not needed (passes go on after a restart), but quieter."""
    busy = f.world.store.read(nodes.working)
    return passed("no workflow runs" if not busy else f"{busy} nodes work; they go on after the restart")
