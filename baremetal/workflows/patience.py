"""How long a boot may take before it is called stuck: by what was seen of it, and by what this machine took before.

A server's firmware may need five minutes before it touches the network
(memory training, option ROMs, disk controllers; a 2-socket machine with 1 TB
is the slow end), a virtual machine two seconds. So a machine that was never
seen gets the whole of `post_s`, one whose POST was measured twice that time,
and one that was seen on the wire `boot_s` from the last sight of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from baremetal.model.event import Event, Kind
from baremetal.store import events
from baremetal.store.boots import Boot
from baremetal.workflows.causes import SLACK_S
from baremetal.workflows.passes import Pass

LEAST_S = 90.0  # a measured POST never shortens the wait below this: a firmware update, a memory error, a first boot
MOST_TIMES, SLACK_POST_S = 2.0, 30.0
SIGHTS = (Kind.DHCP, Kind.LOADER, Kind.SCRIPT, Kind.KERNEL)
NOTES = "engine"  # our page in node.extra


def post_s(p: Pass) -> float | None:
    """Seconds from power-on to the first DHCP request, as measured at this machine's last boot."""
    found = (p.node.extra.get(NOTES) or {}).get("post_s")
    return float(found) if found is not None else None


def silent_s(p: Pass) -> float:
    """How long after power-on it may be silent."""
    known = post_s(p)
    if known is None:
        return p.policy.post_s
    return min(p.policy.post_s, max(LEAST_S, MOST_TIMES * known + SLACK_POST_S))


def until(p: Pass, boot: Boot, seen: Sequence[Event]) -> tuple[float, str]:
    """(Unix seconds, what is waited for)."""
    on = boot.powered_at or boot.created_at
    sights = [e for e in seen if e.kind in SIGHTS and e.time >= on - SLACK_S]
    if sights:
        last = max(sights, key=lambda e: e.time)
        what = f"last seen: {last.kind} {last.stage}; the ramdisk must say hello"
        return min(last.time + p.policy.boot_s, on + p.policy.hello_s), what
    known = post_s(p)
    took = f"its firmware took {known:.0f} s last time" if known is not None else "firmware may take minutes"
    return min(on + silent_s(p), on + p.policy.hello_s), f"it must be seen on the network; {took}"


def learn(p: Pass, boot: Boot) -> None:
    """The ramdisk said hello: remember how long the firmware took."""
    if boot.powered_at is None:
        return
    seen = p.world.store.read(lambda c: events.of_node(c, p.node.id, since=boot.created_at))
    sights = [e.time for e in seen if e.kind in SIGHTS and e.time >= boot.powered_at - SLACK_S]
    if sights:
        notes = {**(p.node.extra.get(NOTES) or {}), "post_s": round(max(0.0, min(sights) - boot.powered_at), 1)}
        p.change(extra={**p.node.extra, NOTES: notes})
