"""Loopback addresses of this test run alone: IPMI's port is fixed, and another run may be under way beside us."""

from __future__ import annotations

import os


def address(host: int, block: int = 0) -> str:
    """127.x.y.host; `block` counts on from y."""
    run = os.getpid()
    return f"127.{64 + run % 128}.{run // 128 % 250 + block}.{host}"
