"""One writer at a time for a state directory; an unfinished run before us is undone first."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Iterator, List, Optional

from baremetal.agents.apply.journal import Journal
from baremetal.errors import BaremetalError

WAIT_S = 60.0


class Busy(BaremetalError):
    """Another process is changing files."""

    code = "config-busy"


@contextlib.contextmanager
def held(state: Optional[str], wait_s: float = WAIT_S) -> Iterator[List[str]]:
    """Hold the lock of this state directory; gives the paths that a killed run left and that went back.

    Without a state directory there is nothing to lock or to recover. A process
    that the holder itself started (a script that calls `os-apply-config`) goes
    ahead under the lock of its ancestor.
    """
    if state is None:
        yield []
        return
    os.makedirs(state, mode=0o700, exist_ok=True)
    if os.environ.get("BAREMETAL_AGENT_LOCK") == os.path.realpath(state):
        yield []
        return
    descriptor = os.open(os.path.join(state, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, state, wait_s)
        yield Journal(state).recover()
    finally:
        os.close(descriptor)


def environment(state: str) -> str:
    """What the holder puts into BAREMETAL_AGENT_LOCK for the scripts it starts."""
    return os.path.realpath(state)


def _take(descriptor: int, state: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(
                    f"another agent holds {state}/lock for more than {wait_s:g} s", fix=f"fuser -v {state}/lock"
                ) from None
            time.sleep(0.05)
