"""Says "not again so soon": alarms that anybody on the wire can cause must not fill the spool or the database."""

from __future__ import annotations

import time

EVERY_S = 10.0
MOST = 4096  # sources remembered


class Seldom:
    """`due(key)` is true once in EVERY_S for a key; `skipped` counts what was not told since."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}

    def due(self, key: str, now: float | None = None) -> int:
        """0: keep quiet. Otherwise how often it happened since it was last told, this time included."""
        at = time.monotonic() if now is None else now
        last, skipped = self._last.get(key, (-EVERY_S, 0))
        if at - last < EVERY_S:
            self._last[key] = (last, skipped + 1)
            return 0
        if len(self._last) >= MOST:
            self._last = {k: v for k, v in self._last.items() if at - v[0] < EVERY_S}
            if len(self._last) >= MOST:
                return 0
        self._last[key] = (at, 0)
        return skipped + 1


class Share:
    """So many at once for each key, refilled at a rate: a flood from one costs no more than a trickle.

    For keys that no client invents (nodes): each is remembered.
    """

    def __init__(self, at_once: int, per_s: float) -> None:
        self._most, self._per_s = float(at_once), per_s
        self._have: dict[str, tuple[float, float]] = {}

    def take(self, key: str, now: float | None = None) -> bool:
        """One more?"""
        at = time.monotonic() if now is None else now
        have, since = self._have.get(key, (self._most, at))
        have = min(self._most, have + (at - since) * self._per_s)
        self._have[key] = (have - 1 if have >= 1 else have, at)
        return have >= 1
