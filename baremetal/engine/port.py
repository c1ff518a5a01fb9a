"""What workflows ask of an engine, and what an engine asks of them.

The engine promises: `run` is called for a node soon after it is due, at least
once, one at a time per node, on a live server. It knows nothing of states.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

# One pass over one node: does at most one thing, stores it, and says when it is due again
# (Unix seconds; None = only when evidence or a wish comes).
Run = Callable[[str], Awaitable[float | None]]

# (node id, due at) of all nodes due until the horizon given in Unix seconds.
Due = Callable[[float], Awaitable[list[tuple[str, float]]]]


@dataclass(frozen=True)
class EngineStats:
    """Figures for status and metrics. `late_s` are the newest delays between due and begun."""

    queued: int
    running: int
    passes: int
    crashes: int
    late_s: tuple[float, ...]


class Engine(Protocol):
    """Runs passes when they are due."""

    def wake(self, node_id: str, at: float | None = None, *, urgent: bool = False) -> None:
        """The node is due at `at` (now when None). Forgetting this call only delays: the store has wake_at.

        `urgent`: somebody waits for the answer (an agent reported); it goes before what merely came due.
        """
        ...

    async def start(self) -> None:
        """Begin; nodes that are due in the store run without being woken."""
        ...

    async def stop(self) -> None:
        """Let running passes end, start no new one."""
        ...

    def stats(self) -> EngineStats:
        """How it goes."""
        ...
