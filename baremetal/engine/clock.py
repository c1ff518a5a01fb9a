"""A clock that does not jump: Unix seconds that advance with the monotonic clock.

Deadlines are stored as Unix seconds. When somebody sets the system clock (NTP
after a cold start, a flat CMOS battery) all of them would pass at once, or
never. `drift_s` says how far the system clock went away; who shifts the stored
deadlines calls `rebase` after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# Below this, NTP is merely slewing.
JUMP_S = 5.0


class Clock:
    """now() in Unix seconds, steady between two rebases."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._zero = wall() - steady()

    def now(self) -> float:
        """Unix seconds."""
        return self._zero + self._steady()

    def drift_s(self) -> float:
        """How far the system clock is ahead of us, in seconds."""
        return self._wall() - self.now()

    def jumped(self) -> bool:
        """The system clock was set."""
        return abs(self.drift_s()) > JUMP_S

    def rebase(self) -> float:
        """Follow the system clock; returns by how many seconds we moved."""
        delta = self.drift_s()
        self._zero += delta
        return delta
