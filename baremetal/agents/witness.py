"""Does a drive keep its word? What lay on it before it erased itself must not come back afterwards.

A drive's answer to Sanitize, Format or Security Erase is its own word; a firmware that says yes and does nothing would
pass. So some hundred spots over the whole drive are read before and after. Reads only.
"""

from __future__ import annotations

from typing import List, Tuple

from baremetal.agents.blockdev import Target
from baremetal.agents.trouble import NodeTrouble, WipeUnproved

SPOTS, SPOT = 256, 4096  # on a rotating disk 256 seeks are three seconds
Held = List[Tuple[int, bytes]]


def held(target: Target) -> Held:
    """(byte, what lies there) of spots that hold something; those that cannot be read are left out."""
    found: Held = []
    nothing = bytes(SPOT)
    last = max(0, target.size // SPOT - 1)
    for at in sorted({last * n // (SPOTS - 1) * SPOT for n in range(SPOTS)}):
        try:
            data = target.read(at, SPOT)
        except NodeTrouble:
            continue
        if data and data != nothing[: len(data)]:
            found.append((at, data))
    return found


def check(target: Target, before: Held) -> int:
    """How many spots changed: all of them, or WipeUnproved."""
    target.drop_cache()
    for at, data in before:
        if target.read(at, len(data)) == data:
            raise WipeUnproved(
                f"{target.path}: byte {at} still holds what it held before the drive said that it erased itself",
                detail=f"the first of {len(before)} spots that were compared",
                fix="do not trust this drive's own erase: use the method zero, and check its firmware",
                disk=target.path,
                offset=at,
            )
    return len(before)
