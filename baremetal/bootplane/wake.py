"""Held requests and what wakes them: a push for the node, or the time they brought."""

from __future__ import annotations

import asyncio

from baremetal.bootplane.state import Change


class Wakeups:
    """Waiters by node id."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return sum(len(waiters) for waiters in self._waiting.values())

    async def wait(self, node: str, seconds: float) -> bool:
        """True when something about the node was pushed, False when the time is over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(node, set())
        waiters.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
            return True
        except TimeoutError:
            return False
        finally:
            waiters.discard(future)
            if not waiters and self._waiting.get(node) is waiters:
                del self._waiting[node]

    def wake(self, change: Change) -> None:
        """Wake everyone whom the change concerns."""
        named = [entry.view.node for entry in change.nodes] + list(change.gone)
        for node in list(self._waiting) if change.whole else named:
            for future in self._waiting.pop(node, ()):
                if not future.done():
                    future.set_result(None)

    def wake_all(self) -> None:
        """At shutdown: every held request returns now."""
        self.wake(Change((), (), whole=True))
