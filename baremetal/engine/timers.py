"""Due times of this server's own nodes, so that their ticks begin to the instant; the node rows are what counts."""

from __future__ import annotations

import heapq


class Timers:
    """The earliest time of each node. Times are Unix seconds of the database."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._at: dict[str, float] = {}  # the valid one of a node; other heap entries are stale

    def __len__(self) -> int:
        return len(self._at)

    def set(self, node: str, at: float) -> bool:
        """Due then, unless it is due before; True when that is news."""
        if at >= self._at.get(node, float("inf")):
            return False
        self._at[node] = at
        heapq.heappush(self._heap, (at, node))
        return True

    def drop(self, node: str) -> None:
        """Its tick begins: it says when the next one is due."""
        self._at.pop(node, None)

    def due(self, now: float) -> list[tuple[str, float]]:
        """Nodes whose time came, with that time; they are forgotten here."""
        found = []
        while (left := self.left_s(now)) is not None and left <= 0:
            at, node = heapq.heappop(self._heap)
            del self._at[node]
            found.append((node, at))
        return found

    def left_s(self, now: float) -> float | None:
        """Until the next one; None when there is none."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] - now if self._heap else None
