"""Hears what any server committed: the database's triggers NOTIFY, this listens.

Hearing is a convenience, never a promise: after each gap `missed` is called, and the
receiver looks at everything afresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import psycopg

from baremetal.store import StoreError

log = logging.getLogger(__name__)

CHANNEL = "baremetal"
AGAIN_S = 0.5
PROBE_S = 5.0  # a connection that is silent for so long is asked whether it is still there


class Listener:
    """`heard(nodes, secrets)` with ids, `missed()` after a gap; `ours` tells which sessions are our own.

    `made` hears of each connection.
    """

    def __init__(
        self,
        conninfo: str,
        heard: Callable[[set[str], set[str]], None],
        missed: Callable[[], None],
        ours: Callable[[int], bool] = lambda _pid: False,
        made: Callable[[psycopg.AsyncConnection[Any]], None] = lambda _conn: None,
    ) -> None:
        self._conninfo, self._heard, self._missed, self._ours, self._made = conninfo, heard, missed, ours, made
        self._task: asyncio.Task[None] | None = None
        self._nodes: set[str] = set()
        self._secrets: set[str] = set()
        self._soon: asyncio.Handle | None = None
        self.connected = False

    async def start(self) -> None:
        """Begin; returns when it listens for the first time (or cannot yet)."""
        self._task = asyncio.create_task(self._run(), name="listener")
        for _ in range(100):
            if self.connected:
                return
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        gap = False
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as conn:
                    self._made(conn)
                    await conn.execute(f"LISTEN {CHANNEL}")
                    self.connected = True
                    if gap:
                        self._missed()  # when that fails, the gap is still there
                    gap = True
                    await self._listen(conn)
            except (psycopg.Error, StoreError) as exc:
                if self.connected:
                    log.warning(
                        "news of other servers are lost: %s", (str(exc).splitlines() or [type(exc).__name__])[0]
                    )
            except Exception:
                log.exception("news of other servers are lost")
            self.connected = False
            await asyncio.sleep(AGAIN_S)

    async def _listen(self, conn: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        while True:
            async for news in conn.notifies(timeout=PROBE_S):
                if not self._ours(news.pid):
                    self._take(news.payload)
            await conn.execute("SELECT 1")

    def _take(self, payload: str) -> None:
        kind, _, ref = payload.partition(":")
        (self._secrets if kind == "s" else self._nodes).add(ref)
        if self._soon is None:  # what was committed together comes together
            self._soon = asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._soon = None
        nodes, self._nodes = self._nodes, set()
        secrets, self._secrets = self._secrets, set()
        with contextlib.suppress(Exception):
            self._heard(nodes, secrets)
