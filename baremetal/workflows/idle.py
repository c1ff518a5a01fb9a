"""A ramdisk that nobody needs: kept for the next verb for a while, then switched off."""

from __future__ import annotations

from baremetal.model.node import State
from baremetal.workflows import release
from baremetal.workflows.outcome import Again, Done, Outcome
from baremetal.workflows.passes import Pass


def wake(p: Pass) -> float | None:
    """When a node at rest is looked at again: only for wishes, and for a ramdisk that idles."""
    if p.node.power_wanted or "ask" in p.node.work:
        return p.now
    if p.node.held or p.ramdisk is None or p.node.wanted is not None or p.node.state is State.RESCUE:
        return None
    return p.now + p.policy.idle_ramdisk_s


async def ramdisk(p: Pass) -> Outcome | None:
    """Nobody needed the ramdisk for a while: power off. Failed nodes keep it, for whoever looks into them."""
    assert p.ramdisk is not None
    since = max(p.node.state_since, p.ramdisk.hello_at or p.ramdisk.created_at)
    if p.now - since < p.policy.idle_ramdisk_s:
        return Again(p.policy.idle_ramdisk_s - (p.now - since), "the ramdisk is kept for the next verb")
    outcome = await release.off(p)
    return None if isinstance(outcome, Done) else outcome
