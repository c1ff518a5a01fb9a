"""How often Python looks for cyclic garbage in a process whose objects mostly stay. No I/O."""

from __future__ import annotations

import gc

NEW_OBJECTS = 10_000  # Python's own 700 means a look every hundred leases


def relax() -> None:
    """Leases and views are long-lived: looking through them again and again costs more than it frees."""
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 20, 20)
