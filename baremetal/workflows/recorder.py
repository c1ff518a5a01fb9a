"""Records the serial console of nodes while a workflow runs them: one file a boot, kept with the timeline.

Best effort by nature: a BMC without serial over LAN costs one event, a lost
session is opened again, and nothing here can delay a pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import Connection

from baremetal import lifecycle
from baremetal.bmc.base import ConsoleStream
from baremetal.bmc.consolelog import ConsoleLog
from baremetal.bmc.faults import BmcError, BmcUnsupported
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node
from baremetal.secrets import Secret
from baremetal.store import BadValue, StoreError, events, nodes, secrets
from baremetal.workflows import ids
from baremetal.workflows.causes import SAID
from baremetal.workflows.passes import World
from baremetal.workflows.telltales import Scanner

log = logging.getLogger(__name__)

Open = Callable[[str, Secret], Awaitable[ConsoleStream]]
RETRY_S = 15.0
STORE_S = 2.0
KEEP = 10  # files a node


class Recorder:
    """`watch(node)` after every pass; it starts and ends recordings by itself."""

    def __init__(
        self, world: World, directory: Path, open_console: Open, wake: Callable[[str], None] = lambda _node: None
    ) -> None:
        """`wake` is called with the node whose boot was heard to end."""
        self._world, self._directory, self._open, self._wake = world, directory, open_console, wake
        self._running: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._without: set[str] = set()  # BMC addresses that have no console

    def watch(self, node: Node) -> None:
        """Record from the first boot of a workflow to its end, and a failed node as long as its ramdisk lives."""
        busy = node.wanted is not None and node.state not in lifecycle.STABLE and node.boot_id is not None
        known = self._running.get(node.id)
        if known and (not busy or known[0] != node.boot_id):
            known[1].cancel()
            del self._running[node.id]
            known = None
        if busy and known is None and node.boot_id and node.bmc_url and node.bmc_url not in self._without:
            task = asyncio.create_task(self._record(node, node.boot_id), name=f"console-{node.name}")
            self._running[node.id] = (node.boot_id, task)

    async def stop(self) -> None:
        """End all recordings."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _record(self, node: Node, boot_id: str) -> None:
        place = self._directory / node.id
        log_file: ConsoleLog | None = None
        scanner: Scanner | None = None
        try:
            while True:
                try:
                    scanner = scanner or Scanner(self._told_before(node, boot_id))
                    stream = await self._open(node.bmc_url, self._password(node))
                except StoreError as exc:
                    log.info("console of %s: %s; again in %.0f s", node.name, exc.brief, RETRY_S)
                    await asyncio.sleep(RETRY_S)
                    continue
                except BmcUnsupported as exc:
                    self._without.add(node.bmc_url)
                    await self._tell(node, boot_id, "not-recorded", exc.brief)
                    return
                except BmcError as exc:
                    log.info("console of %s: %s; again in %.0f s", node.name, exc.brief, RETRY_S)
                    await asyncio.sleep(RETRY_S)
                    continue
                first = log_file is None
                if log_file is None:
                    self._make_room(place)
                    log_file = ConsoleLog(place / f"{boot_id}.log", node.name)
                await self._copy(stream, log_file, scanner, node, boot_id, first)
        finally:
            if log_file:
                log_file.close()

    async def _copy(
        self, stream: ConsoleStream, log_file: ConsoleLog, scanner: Scanner, node: Node, boot_id: str, first: bool
    ) -> None:
        try:
            if first:
                await self._tell(node, boot_id, "recording", f"baremetal node console {node.name} --boot {boot_id}")
            with contextlib.suppress(BmcError):
                async for piece in stream:
                    log_file.output(piece)
                    for found in scanner.feed(piece):
                        await self._tell(
                            node, boot_id, SAID, found.means, fix=found.fix, over=found.over, line=found.line
                        )
                        if found.over:
                            self._wake(node.id)
            log_file.mark("session lost")
        finally:
            with contextlib.suppress(BmcError):
                await stream.close()

    def _password(self, node: Node) -> Secret:
        world = self._world
        found = world.store.read(lambda c: secrets.get(c, world.operator, node.id, secrets.BMC_PASSWORD))
        return found or Secret("")

    def _make_room(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        old = sorted(place.glob("*.log"), key=lambda p: p.stat().st_mtime)[: -KEEP + 1]
        for path in old:
            path.unlink(missing_ok=True)

    def _told_before(self, node: Node, boot_id: str) -> frozenset[str]:
        """Lines that ended earlier boots of this node."""
        kinds = [str(Kind.CONSOLE)]
        seen = self._world.store.read(lambda c: events.of_node(c, node.id, kinds=kinds, limit=200))
        return frozenset(str(e.data["line"]) for e in seen if e.boot_id != boot_id and "line" in e.data)

    async def _tell(self, node: Node, boot_id: str, stage: str, because: str, **more: str) -> None:
        now = self._world.now()
        data = {"because": because, **{key: value for key, value in more.items() if value}}
        told = Event(ids.ulid(now), now, node.id, Kind.CONSOLE, stage, "bmc", boot_id=boot_id, data=data)

        def write(conn: Connection) -> None:
            events.add_all(conn, [told])
            if data.get("over"):  # due by what is stored, so that whoever looks next need not have heard it
                nodes.note(conn, node.id, now)

        while True:
            try:
                await self._world.store.write(write)
                return
            except BadValue as exc:
                log.warning("console of %s: %s", node.name, exc.brief)
                return
            except StoreError as exc:  # it is said when the database is back
                log.info("console of %s: %s; again in %.0f s", node.name, exc.brief, STORE_S)
                await asyncio.sleep(STORE_S)
