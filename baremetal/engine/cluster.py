"""One server among several: may it join, what it is called, and what it needs to work with the others."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.engine import jobs, joining, lease, takeover
from baremetal.engine.clock import Clock
from baremetal.engine.lease import TAKEOVER_S, Lease, Outage, boottime
from baremetal.engine.listen import Listener
from baremetal.engine.port import Due, Run
from baremetal.engine.shared import SharedEngine, Tell
from baremetal.errors import MachineError
from baremetal.store import Store, postgres, schema, servers
from baremetal.store.servers import Server

log = logging.getLogger(__name__)


class Cluster:
    """`Cluster(url, …)`, `join(store)`, then engine(), clock, lease; `leave()` at the end."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "",
        version: str,
        site: str,
        urls: Iterable[str] = (),
        pools: Iterable[str] = (),
        on_lost: Callable[[str], None] = lambda by: None,
    ) -> None:
        self.url, self._site = url, site
        self.me = Server(
            id=str(uuid.uuid4()),
            name=name or socket.gethostname(),
            host=socket.gethostname(),
            boot=_boot_id(),
            pid=os.getpid(),
            version=version,
            schema=schema.HEAD,
            urls=list(urls),
        )
        self.lease = Lease(url, self.me, [f"pool:{pool}" for pool in pools], on_lost)
        self.clock: Clock = Clock(wall=self.lease.now, steady=boottime)
        self.store: Store | None = None
        self.skipped: list[str] = []  # what could not be checked
        self._engine: SharedEngine | None = None
        self._listener: Listener | None = None
        self._pids: set[int] = set()

    @property
    def application(self) -> str:
        """What our sessions are called in the database."""
        return f"bm:{self.me.id}"

    def open_store(self) -> Store:
        """Open the database under our name, after what would break in it was looked for."""
        joining.refuse_transaction_pooler(self.url)
        self.store = Store.open(self.url, self.application)
        self.store.engine.dispose()  # from here on every session is known as ours
        sa.event.listen(self.store.engine, "connect", self._connected)
        self.lease.watch(self.store.engine)
        return self.store

    def join(self) -> None:
        """Begin this life; MachineError says why not."""
        assert self.store is not None
        try:
            self._admit(self.store)
            self.lease.start()
        except BaseException:
            self.store.admit = None
            raise
        self.clock = Clock(wall=self.lease.now, steady=boottime)
        self.store.admit = self.lease.admit
        if words := lease.check_clock(self.lease.clock_off_s):
            log.warning("%s: deadlines follow the database's clock; set this one right (chrony)", words)

    def leave(self) -> None:
        """End this life in good order: what it drove is anybody's at once."""
        self.lease.stop()

    def engine(
        self, run: Run, due: Due, clock: Clock, *, workers: int, tell: Tell, resumed: Callable[[], None] = lambda: None
    ) -> SharedEngine:
        """The engine of this server.

        `tell` hears what happens to servers and the database, on the loop; `resumed` is called when ticks that
        were cut off may go on: what they stored was perhaps never shown.
        """
        assert self.store is not None
        self._report_outages(self.store, tell)
        ours: dict[str, Any] = {"store": self.store, "lease": self.lease, "url": self.url}
        self._engine = SharedEngine(run, due, clock, **ours, tell=tell, resumed=resumed, workers=workers)
        return self._engine

    def _report_outages(self, store: Store, tell: Tell) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return

        def back(outage: Outage) -> None:
            driven = [n for n, (life, _) in store.read(servers.driven).items() if life == self.me.id]
            facts: dict[str, Any] = {"server": self.me.name, "instance": self.me.id, "since": outage.since}
            facts |= {"because": f"{self.me.name} was {outage.told()}"}
            facts |= {"seconds": round(outage.seconds, 1), "why": outage.why, "what": outage.what}
            loop.call_soon_threadsafe(tell, "database-away", facts, driven)

        self.lease.on_back = back

    async def listen(self, heard: Callable[[set[str], set[str]], None], missed: Callable[[], None]) -> None:
        """Hear what other servers store."""
        text = postgres.conninfo(self.url, f"{self.application}:news")

        def told(nodes: set[str], secrets: set[str]) -> None:
            if self._engine is not None:
                self._engine.heard(nodes)
            heard(nodes, secrets)

        self._listener = Listener(text, told, missed, self.ours, self.lease.watch_one)
        await self._listener.start()

    async def deaf(self) -> None:
        """Hear no more."""
        if self._listener is not None:
            await self._listener.stop()

    def leads(self) -> bool:
        """Is this the server that does what one is enough for?"""
        return self.lease.settled("leader")

    def pools(self) -> list[str]:
        """The networks whose dynamic addresses this server gives out."""
        held = [name for name in self.lease.holds if name.startswith("pool:") and self.lease.settled(name)]
        return sorted(name.removeprefix("pool:") for name in held)

    def share(self) -> Callable[[str], bool]:
        """Which nodes at rest are this server's to look at: each is exactly one living server's."""
        assert self.store is not None
        ids = sorted(s.id for s in self.store.read(servers.alive))
        mine = ids.index(self.me.id) if self.me.id in ids else 0
        return lambda node: lease.key(node) % max(1, len(ids)) == mine

    def ours(self, pid: int) -> bool:
        """Is this one of our own database sessions?"""
        return pid in self._pids

    # -- inside ----------------------------------------------------------------------

    def _connected(self, raw: Any, _record: Any) -> None:
        self._pids.add(raw.info.backend_pid)

    def _admit(self, store: Store) -> None:
        with store.engine.connect() as conn:
            joining.refuse_half_done(conn)
        self._take_name(store)

        def write(conn: Connection) -> None:
            others = [s for s in servers.alive(conn) if s.id != self.me.id]
            joining.refuse_other_site(conn, self._site)
            joining.refuse_skew(self.me.version, others)
            jobs.ensure_tables(conn, alone=not others)
            joining.raise_floor(conn, others)
            servers.register(conn, self.me)

        store.write_sync(write)

    def _take_name(self, store: Store) -> None:
        """A name belongs to one living server. Our own earlier life is over; another's is waited for, then refused."""
        end = time.monotonic() + TAKEOVER_S + 2
        while True:
            namesakes = [s for s in store.read(servers.alive) if s.name == self.me.name]
            if not namesakes:
                return
            for other in namesakes:
                now = store.read(servers.now)
                if _dead(other, self.me) or other.beat_at < now - TAKEOVER_S:
                    store.read(lambda c, o=other: takeover.end(c, o, self.me.id))  # type: ignore[misc]
            alive = [s for s in store.read(servers.alive) if s.name == self.me.name]
            if alive and time.monotonic() > end:
                other = alive[0]
                heard_s = store.read(servers.now) - other.beat_at
                raise MachineError(
                    f"a server called {other.name!r} lives already",
                    detail=f"on {other.host}, process {other.pid}, heard {heard_s:.0f} s ago",
                    fix="give each server a name of its own: server_name in the configuration",
                )
            if alive:
                time.sleep(0.5)


def _dead(other: Server, me: Server) -> bool:
    """Our own earlier life on this machine: the machine was restarted, or the process is gone (or is us)."""
    if other.host != me.host:
        return False
    if other.boot != me.boot or other.pid == me.pid:
        return True
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
