"""Soft off with patience: ask the system, wait, and only then, if allowed, take the power away."""

from __future__ import annotations

import asyncio
import time

from baremetal.bmc.base import BmcDriver, PowerOp
from baremetal.bmc.faults import BmcLied, BmcUnsupported
from baremetal.model.node import Power

POLL_S, LONGEST_POLL_S = 1.0, 5.0


async def soft_off(bmc: BmcDriver, name: str, *, patience_s: float, then_off: bool) -> str:
    """ "already-off", "soft" or "forced": how it went off. BmcLied when it is still on and may not be forced."""
    if await bmc.power() is Power.OFF:
        return "already-off"
    try:
        await bmc.set_power(PowerOp.SOFT)
    except BmcUnsupported:
        if not then_off:
            raise
        patience_s = 0.0
    deadline, pause = time.monotonic() + patience_s, POLL_S
    while (left := deadline - time.monotonic()) > 0:
        await asyncio.sleep(min(pause, left))
        if await bmc.power() is Power.OFF:
            return "soft"
        pause = min(pause * 1.5, LONGEST_POLL_S)
    if not then_off:
        raise BmcLied(
            f"{name}: asked to shut down, still on after {patience_s:.0f} s",
            detail="the power button's press was acknowledged; the system may ignore it or need longer",
            fix="say --then-off to take the power away, or look at its console",
            cause="power",
            stage="read-back",
        )
    await bmc.set_power(PowerOp.OFF)
    return "forced"
