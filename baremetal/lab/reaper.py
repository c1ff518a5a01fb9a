"""The first process of a PID namespace inherits orphans; this buries them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

EVERY_S = 5.0


async def reap() -> None:
    """Wait for orphans for ever.

    Our own children are waited for by who started them, and at once; a zombie that
    is there at two looks in a row is nobody's.
    """
    before: set[int] = set()
    while True:
        now = zombies()
        for pid in before & now:
            bury(pid)
        before = now
        await asyncio.sleep(EVERY_S)


def zombies() -> set[int]:
    """Dead children of this process that nobody has waited for yet."""
    out = set()
    ours = os.getpid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
            except (OSError, ValueError):
                continue  # it is gone already
            if state == "Z" and int(parent) == ours:
                out.add(int(entry.name))
    return out


def bury(pid: int) -> None:
    """Wait for one."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
