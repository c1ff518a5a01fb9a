"""What the boot plane tells us: facts and reports into the store, hello into a token.

Every message is idempotent by its id, or harmless to repeat; a message that
cannot be understood is noted and dropped, so that it blocks nothing behind it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from baremetal.errors import BaremetalError
from baremetal.model.event import Kind
from baremetal.protocol.agent import HelloAnswer
from baremetal.protocol.doc import BadDocument
from baremetal.protocol.plane import Message
from baremetal.store import boots
from baremetal.workflows.beats import Beats
from baremetal.workflows.facts import Facts
from baremetal.workflows.hellos import Hellos
from baremetal.workflows.passes import World

log = logging.getLogger(__name__)

POLL_S = 30

Woken = Callable[[set[str], set[str]], None]


class Inbox:
    """The control end of the planes' contract.

    `woken(nodes due, nodes whose view changed)` is called after each commit,
    `moved()` after one that gave a node another address.
    """

    def __init__(self, world: World, woken: Woken, moved: Callable[[], None] = lambda: None) -> None:
        self._world = world
        self._woken = woken
        self._tell_moved = moved
        self._beats = Beats()
        self._facts = Facts(world, self._beats)
        self._hellos = Hellos(world, self._beats)

    async def flush_beats(self) -> None:
        """Store the beats gathered since the last time: thousands of agents cost one transaction."""
        if gathered := self._beats.take():
            await self._world.store.write(lambda c: boots.beats(c, *gathered))

    async def messages(self, batch: list[Message]) -> None:
        """Store these; when this returns they are durable. Beats are only gathered: the next one follows."""
        batch = [message for message in batch if not self._beats.add(message)]
        if not batch:
            return
        due: set[str] = set()
        changed: set[str] = set()

        def write(conn: Connection, careful: bool) -> None:
            due.clear()
            changed.clear()
            for message in batch:
                self._take(conn, message, due, careful)

        careful = not self._world.store.shared  # else a savepoint costs two more messages to the database
        try:
            await self._world.store.write(functools.partial(write, careful=careful))
        except Exception:  # a message that cannot be stored, it seems: the others are
            if careful:
                raise
            await self._world.store.write(functools.partial(write, careful=True))
        self._woken(due, changed)
        if self._facts.moved:
            self._facts.moved = False
            self._tell_moved()

    async def call(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a call at once; raises BaremetalError (its http_status, if it has one, is for the answer)."""
        if kind == "token":
            return await self._token(str(body.get("sha256", "")))
        if kind != "hello":
            raise BaremetalError(f"unknown call {kind!r}")
        boot, token, name = await self._hellos.admitted(body)
        self._woken({boot.node_id}, {boot.node_id})
        return HelloAnswer(token, boot.node_id, name, boot.id, POLL_S).to_json()

    async def _token(self, digest: str) -> dict[str, Any]:
        """A token that the asking boot plane has not heard of: when it is good, its node is pushed first."""
        boot = await self._world.store.fetch(lambda c: boots.by_token(c, digest))
        if boot is not None:
            self._woken(set(), {boot.node_id})
        return {"known": boot is not None}

    def _take(self, conn: Connection, message: Message, due: set[str], careful: bool) -> None:
        if not careful and (plain := self._facts.handler(message)):
            if plain(conn, message) and message.node:
                due.add(message.node)
            return
        handler = self._facts.handler(message)
        try:
            if handler is None:
                raise BadDocument(f"unknown message kind {message.kind!r}")
            conn.exec_driver_sql("SAVEPOINT message")
            try:
                if handler(conn, message) and message.node:
                    due.add(message.node)
            except BaseException:
                conn.exec_driver_sql("ROLLBACK TO message")
                raise
            finally:
                conn.exec_driver_sql("RELEASE message")
        except (OperationalError, InterfaceError, InternalError):
            raise  # the database, not the message
        except Exception as exc:
            # Whatever a message does to us, it must not keep those behind it from being stored.
            log.warning("message %s (%s) is dropped: %s: %s", message.id, message.kind, type(exc).__name__, exc)
            self._facts.event(
                conn, message, Kind.SERVER, "message-dropped", outcome="failed", data={"why": str(exc)[:300]}
            )
