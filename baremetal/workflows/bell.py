"""Tells whoever waits that something was stored; what it was, they read themselves.

since = bell.count      # before looking
look(); await bell.wait(30, since)
"""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """ring() wakes every wait()."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Something changed."""
        self.count += 1
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, timeout_s: float, since: int | None = None) -> bool:
        """True when it rang (since it had rung `since` times, if that is said), False after `timeout_s`."""
        if since is not None and since != self.count:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            with contextlib.suppress(TimeoutError):  # not wait_for: before 3.12 it can swallow a cancellation
                async with asyncio.timeout(timeout_s):
                    await future
            return future.done() and not future.cancelled()
        finally:
            self._waiting.discard(future)
