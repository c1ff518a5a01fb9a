"""Nonces, tokens and certificates need a clock that is roughly right."""

from __future__ import annotations

import time

from baremetal.workflows import probes
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("clock", "pre-enroll", "pre-deploy", "pre-upgrade")
async def clock(f: Facts) -> Verdict:
    """Not before this program was written; and does something keep it right?"""
    if time.time() < probes.OLDEST_CLOCK:
        return failed(f"it is {time.strftime('%Y-%m-%d')} here", "timedatectl set-ntp true")
    kept = "kept right by NTP" if probes.clock_is_kept() else "nothing keeps it right: timedatectl set-ntp true"
    return passed(f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, {kept}")
