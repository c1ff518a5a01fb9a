"""The lease under which a server acts: it says every second that it lives, and stops acting when it could not.

Runs in a thread of its own with a database session of its own, so that neither a
busy loop nor a busy pool delays it. The session also holds the advisory locks of
what only one server may do; when it ends, they are free.

Time is counted by CLOCK_BOOTTIME: it goes on while the process, or the whole
machine, sleeps.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from baremetal.engine.hung import Breaker
from baremetal.store import StoreError, postgres, servers
from baremetal.store.servers import Server

log = logging.getLogger(__name__)

BEAT_S = 1.0
# Without a beat that the database confirmed, a server stops acting after this long …
LEASE_S = 4.0
# … and others take over what it did after this long. The difference is what a command under way may still take.
TAKEOVER_S = 6.0
SLOW_S = 2  # a beat that takes longer counts as none
CLEAR_S = 1.0  # a beat that takes longer says nothing about the clocks: who knows when in it the database looked at its
LOCKS = 7_270_100  # the advisory locks' first key; the second is the CRC-32 of what is held


class LeaseLost(StoreError):
    """This server may not act now: it could not say that it lives, or others have ended it."""

    code = "lease-lost"


def boottime() -> float:
    """Seconds since the machine started, asleep or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Outage:
    """The database was away: from the last confirmed beat (Unix seconds, the database's clock) to the next one."""

    since: float
    seconds: float
    why: str  # what the first beat that failed said
    what: str  # what is different now

    def told(self) -> str:
        """For people."""
        return f"without the database for {self.seconds:.0f} s ({self.why}); {self.what}"


class Lease:
    """`start()` registers and begins to beat; `held()` says whether this server may act.

    `wants` are names of what only one server may do; `holds` are those that this one does.
    """

    def __init__(self, url: str, me: Server, wants: Iterable[str] = (), on_lost: Callable[[str], None] = print) -> None:
        self.me = me
        self.holds: frozenset[str] = frozenset()
        self.ended: str = ""  # who ended us
        self.clock_off_s = 0.0
        self.on_back: Callable[[Outage], None] = lambda _outage: None  # called in the lease's thread
        self._engine = postgres.make_engine(url, f"bm:{me.id}:lease", statement_s=SLOW_S, durable=False)
        self._breaker = Breaker(self.silent_s)
        self._breaker.watch(self._engine)
        self._wants = ("leader", *wants)
        self._on_lost = on_lost
        self._beaten = 0.0  # boottime at which the last confirmed beat was sent
        self._since = 0.0  # boottime since which no beat was missed
        self._taken: dict[str, float] = {}
        self._offset = 0.0  # the database's clock minus boottime
        self._conn: Connection | None = None
        self._server: tuple[Any, Any] = (None, None)  # the PostgreSQL we spoke with: since when it runs, its address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    # -- what others ask ---------------------------------------------------------

    def held(self) -> bool:
        """May this server act now?"""
        return not self.ended and boottime() - self._beaten < LEASE_S

    def silent_s(self) -> float:
        """For how long no beat was confirmed; 0 before the first and after the last."""
        return boottime() - self._beaten if self._beaten > 0 and not self.ended and not self._stop.is_set() else 0.0

    def left_s(self) -> float:
        """How long it may act without another beat."""
        return 0.0 if self.ended else max(0.0, LEASE_S - (boottime() - self._beaten))

    def check(self) -> None:
        """LeaseLost unless held."""
        if not self.held():
            raise LeaseLost(
                f"this server was ended by {self.ended}" if self.ended else "this server cannot reach the database",
                fix="it goes on by itself; other servers act meanwhile",
            )

    def admit(self, conn: Connection, opening: str = "BEGIN") -> None:
        """Opens every writing transaction: nothing late is ever committed."""
        self.check()
        if not servers.admitted(conn, self.me.id, opening):
            self._lose("another server")
            self.check()

    def steady_s(self) -> float:
        """For how long no beat was missed: who just came back must not judge others."""
        return boottime() - self._since if self.held() else 0.0

    def settled(self, name: str) -> bool:
        """Do we hold this for so long that whoever held it before has noticed?"""
        taken = self._taken.get(name)
        return self.held() and name in self.holds and taken is not None and boottime() - taken >= 0

    def now(self) -> float:
        """The database's clock, Unix seconds; counted on while the database is away."""
        return boottime() + self._offset

    # -- life --------------------------------------------------------------------

    def start(self) -> None:
        """The first beat is made here, so that its errors are the caller's."""
        self._beat()
        self._thread.start()
        self._breaker.start()

    def watch(self, engine: Engine) -> None:
        """Give this engine's connections up when the database stands still."""
        self._breaker.watch(engine)

    def watch_one(self, connection: Any) -> None:
        """The same for one connection."""
        self._breaker.add(connection)

    def stop(self, by: str = "itself") -> None:
        """Say that this life is over; what it held is free at once."""
        self._stop.set()
        self._breaker.stop()
        if self._thread.is_alive():
            self._thread.join(SLOW_S + 3)
        with contextlib.suppress(Exception), self._engine.begin() as conn:
            servers.end(conn, self.me.id, by)
        self._drop()
        self._engine.dispose()

    def abandon(self) -> None:
        """As if the process had been killed (tests)."""
        self._stop.set()
        self._breaker.stop()
        self._beaten = -LEASE_S
        if self._thread.is_alive():
            self._thread.join(SLOW_S + 3)
        self._drop()
        self._engine.dispose()

    # -- inside --------------------------------------------------------------------

    def _run(self) -> None:
        why, since, server = "", 0.0, self._server
        while not self._stop.wait(BEAT_S):
            begun, last = boottime(), self._beaten
            try:
                self._beat()
                if not why and boottime() - begun > LEASE_S:  # a database that is stopped breaks no connection
                    why, since, server = f"it did not answer for {boottime() - begun:.0f} s", last, self._server
                    continue  # the next beat says whether it is back; only then may anything be stored
                if why and not self.ended:
                    self._back(since, why, server)
                why = ""
            except Exception as exc:
                if not why:
                    waited = boottime() - begun
                    why = f"it did not answer for {waited:.0f} s" if waited > LEASE_S else _first_line(exc)
                    log.warning("a beat failed; acting ends in %.1f s: %s", self.left_s(), why)
                    since, server = self._beaten, self._server
                self._drop()
            if self.ended:
                return

    def _back(self, since: float, why: str, before: tuple[Any, Any]) -> None:
        """`since`: when it was confirmed last (boottime)."""
        what = "PostgreSQL is the one it was: it was slow, or the network was away"
        if self._server[1] != before[1]:
            what = f"another host answers now: {self._server[1]}"
        elif self._server[0] != before[0]:
            what = "PostgreSQL was restarted"
        outage = Outage(since + self._offset, boottime() - since, why, what)
        log.warning("the database is back: %s", outage.told())
        with contextlib.suppress(Exception):
            self.on_back(outage)

    def _beat(self) -> None:
        conn = self._session()
        before = boottime()
        wall = time.time()
        at = servers.beat(conn, self.me.id, self.clock_off_s, sorted(self.holds))
        if at is None:
            self._lose(
                conn.execute(sa.select(servers.servers.c.ended_by).where(servers.servers.c.id == self.me.id)).scalar()
            )
            return
        after = boottime()
        if after - before < CLEAR_S or not self._beaten:
            self._offset = at - (before + after) / 2
            self.clock_off_s = round(wall + (after - before) / 2 - at, 3)
        if before - self._beaten > LEASE_S:
            self._since = before
        self._beaten = before
        self._reach(conn)

    def _reach(self, conn: Connection) -> None:
        """Take what nobody holds."""
        for name in self._wants:
            if name not in self.holds and conn.execute(_TRY, {"a": LOCKS, "b": key(name)}).scalar():
                # Whoever held it may go on until it notices: we begin after that.
                others = [s for s in servers.newest(conn, 20) if s.id != self.me.id and name in s.holds]
                beats = [s.beat_at for s in others if s.ended_by != "itself"]
                self._taken[name] = max([boottime(), *(b - self._offset + TAKEOVER_S for b in beats)])
                servers.change(conn, self.me.id, holds=sorted(self.holds | {name}))  # said before it is used
                self.holds |= {name}
                log.info("this server holds %s now", name)

    def _session(self) -> Connection:
        if self._conn is None:
            self._conn = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            runs, host = self._conn.execute(_WHICH).one()
            self._server = (runs, host)
        return self._conn

    def _drop(self) -> None:
        """Without its session nothing is held."""
        conn, self._conn = self._conn, None
        if self.holds and not self._stop.is_set():
            log.warning("no longer %s", ", ".join(sorted(self.holds)))
        self.holds = frozenset()
        self._taken.clear()
        if conn is not None:
            with contextlib.suppress(Exception):
                conn.invalidate()
            with contextlib.suppress(Exception):
                conn.close()

    def _lose(self, by: str | None) -> None:
        if not self.ended:
            self.ended = by or "nobody knows"
            self._drop()
            self._on_lost(self.ended)


_WHICH = sa.text("SELECT pg_postmaster_start_time(), host(inet_server_addr()) || ':' || inet_server_port()")
_TRY = sa.text("SELECT pg_try_advisory_lock(:a, :b)")


def key(name: str) -> int:
    """A name as the second key of an advisory lock (32 bits, signed)."""
    crc = zlib.crc32(name.encode())
    return crc - (1 << 32) if crc >= 1 << 31 else crc


def terminate(conn: Connection, instance: str) -> int:
    """End all database sessions of a server: what it has not committed is undone, what it held is free."""
    query = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name LIKE :name AND usename = current_user AND pid <> pg_backend_pid()"
    )
    return int(conn.execute(query, {"name": f"bm:{instance}%"}).scalar() or 0)


def check_clock(off_s: float) -> str:
    """What to say about a server whose clock is wrong; "" when it is right."""
    if abs(off_s) < 5:
        return ""
    return f"this machine's clock is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the database's"


def _first_line(exc: Exception) -> str:
    return (str(getattr(exc, "orig", None) or exc).splitlines() or [type(exc).__name__])[0]
