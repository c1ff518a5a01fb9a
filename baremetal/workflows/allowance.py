"""An allowance: so many at once, then so many a second."""

from __future__ import annotations


class Allowance:
    """So many at once, refilled at a rate; counts what it turned away."""

    def __init__(self, most: float, per_s: float) -> None:
        self._most, self._per_s = most, per_s
        self._have, self._at, self._turned_away = most, 0.0, 0

    def take(self, now: float) -> bool:
        """One more?"""
        self._have = min(self._most, self._have + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._have < 1:
            self._turned_away += 1
            return False
        self._have -= 1
        return True

    def left_out(self) -> int:
        """How many were turned away since this was asked last."""
        count, self._turned_away = self._turned_away, 0
        return count
