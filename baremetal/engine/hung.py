"""Breaks the connections on which a database that stands still keeps us waiting.

A host that was paused, or whose disk hangs, breaks no connection: its kernel acknowledges what we send, and no
timeout of ours ends the wait. Whoever waits there would hang with it, the API included. So once the lease is out for
long, the sockets are shut down; who waited hears that the database is away, says so, and turns to whoever answers
now: a standby may have been promoted while the old host still holds our connections open.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

log = logging.getLogger(__name__)

CUT_S = 8.0  # without a beat for so long: others act for us by now
LOOK_S = 1.0


class Breaker:
    """`watch(engine)` what may hang; `silent_s()` says for how long no beat was confirmed."""

    def __init__(self, silent_s: Callable[[], float]) -> None:
        self._silent_s = silent_s
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hung", daemon=True)

    def watch(self, engine: Engine) -> None:
        """Every connection that this engine makes from now on."""
        sa.event.listen(engine, "connect", lambda raw, _record: self.add(raw))

    def add(self, raw: Any) -> None:
        """This connection; any that has a fileno()."""
        with self._guard:
            self._connections.add(raw)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def cut(self) -> int:
        """Shut all of them down; how many."""
        with self._guard:
            found = list(self._connections)
            self._connections.clear()
        return sum(_shut(raw) for raw in found)

    def _run(self) -> None:
        looks = 0
        while not self._stop.wait(LOOK_S):
            # Twice: who was asleep itself beats first.
            looks = looks + 1 if self._silent_s() > CUT_S else 0
            if looks >= 2 and (count := self.cut()):
                log.warning("the database does not answer: %d connections are given up", count)


def _shut(raw: Any) -> bool:
    with contextlib.suppress(Exception):
        with socket.socket(fileno=os.dup(raw.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)
        return True
    return False
