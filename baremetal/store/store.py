"""The database: one writer thread, many readers.

A write is a function of a connection; it runs on the writer thread inside a
transaction. What waits there together is committed together, each write under
its own savepoint, so that one failing write takes no other with it. Nothing
here knows a table: nodes.py, events.py … do.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from baremetal.errors import BaremetalError, MachineError, UsageError
from baremetal.store import postgres, schema

T = TypeVar("T")
Write = Callable[[Connection], Any]

# Writes committed together: at most so many, and none is taken in after so long, because all wait for the last.
BATCH = 64
BATCH_S = 0.015
BUSY_TIMEOUT_S = 10
# PostgreSQL: two servers may write the same rows. A batch that waits longer for a row is done one by one instead
# (so that two batches never wait for each other), and what collided is done again.
BATCH_LOCK_MS = 300
TRIES = 5


class StoreError(BaremetalError):
    """The database cannot be read or written now."""

    code = "store"


class BadValue(StoreError, ValueError):
    """A value that the database cannot hold (a NUL in a text, say): repeating does not help."""

    code = "usage"


class Fenced(BaremetalError):
    """Somebody else changed the node meanwhile: look again, then decide again."""

    code = "fenced"


class Store:
    """One open database. Control's process opens it, nobody else."""

    def __init__(self, engine: Engine, lock: Any = None) -> None:
        self.engine = engine
        self._lock = lock
        self._jobs: queue.SimpleQueue[tuple[Write, Future[Any]] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._closed = False
        self._mine = threading.local()
        self._readers: list[Connection] = []
        self._guard = threading.Lock()
        # Opens every writing transaction on PostgreSQL, with the statements given, in one message; raises when this
        # server may not write (any more).
        self.admit: Callable[[Connection, str], None] | None = None
        self._writer.start()

    @classmethod
    def open(cls, url: str, application: str = "baremetal") -> Store:
        """Open and migrate. `sqlite:////absolute/path` or a PostgreSQL URL; `application` names its sessions there."""
        lock = _lock(url)
        try:
            engine = make_engine(url, application)
            schema.upgrade(engine, url)
            _refuse_moved(engine)
        except sa.exc.DatabaseError as exc:
            _unlock(lock)
            raise _explain(exc, url) from exc
        except BaseException:
            _unlock(lock)
            raise
        return cls(engine, lock)

    def close(self) -> None:
        """Finish what was handed in, then close."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._writer.join()
        for conn in self._readers:
            conn.close()
        self.engine.dispose()
        _unlock(self._lock)

    @property
    def path(self) -> Path | None:
        """The SQLite file, if it is one."""
        name = self.engine.url.database
        return Path(name) if self.engine.dialect.name == "sqlite" and name else None

    def submit(self, write: Callable[[Connection], T]) -> Future[T]:
        """Hand a write to the writer thread."""
        if self._closed:
            raise StoreError("the database is closed", fix="the server is stopping")
        future: Future[T] = Future()
        self._jobs.put((write, future))
        return future

    async def write(self, write: Callable[[Connection], T]) -> T:
        """Run `write` in a transaction; when this returns it is committed.

        Cancelling the caller does not cancel the write.
        """
        return await asyncio.shield(asyncio.wrap_future(self.submit(write)))

    def write_sync(self, write: Callable[[Connection], T]) -> T:
        """The same for a thread that may block."""
        return self.submit(write).result()

    def read(self, query: Callable[[Connection], T]) -> T:
        """Run a short query in this thread, on the thread's own connection, each statement for itself."""
        conn: Connection | None = getattr(self._mine, "conn", None)
        if conn is None:
            conn = self._mine.conn = self._reader()
        try:
            return query(conn)
        except sa.exc.DatabaseError as exc:
            del self._mine.conn
            if self.shared:
                self._discard(conn)
                if postgres.lost(exc):  # it may have been restarted: ask once more, on a new connection
                    return self._read_anew(query)
            raise _explain(exc, str(self.engine.url)) from exc

    @property
    def shared(self) -> bool:
        """May other servers write this database too?"""
        return self.engine.dialect.name == "postgresql"

    def _read_anew(self, query: Callable[[Connection], T]) -> T:
        conn = self._mine.conn = self._reader()
        try:
            return query(conn)
        except sa.exc.DatabaseError as exc:
            del self._mine.conn
            self._discard(conn)
            raise _explain(exc, str(self.engine.url)) from exc

    def _discard(self, conn: Connection) -> None:
        with self._guard, contextlib.suppress(ValueError):
            self._readers.remove(conn)
        with contextlib.suppress(Exception):
            conn.invalidate()
            conn.close()

    def _reader(self) -> Connection:
        try:
            conn = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except sa.exc.DatabaseError as exc:
            raise _explain(exc, str(self.engine.url)) from exc
        with self._guard:
            self._readers.append(conn)
        return conn

    async def fetch(self, query: Callable[[Connection], T]) -> T:
        """Run a longer query in a reader thread."""
        return await asyncio.to_thread(self.read, query)

    # -- the writer thread ---------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self, several: bool) -> Iterator[Connection]:
        """A writing transaction. PostgreSQL gets all that opens it in one message, not one by one."""
        if not self.shared:
            with self.engine.connect() as conn, conn.begin():
                yield conn
            return
        opening = f"BEGIN; SET LOCAL lock_timeout = {BATCH_LOCK_MS}" if several else "BEGIN"
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn, conn.begin():
            if self.admit is not None:
                self.admit(conn, opening)
            else:
                conn.exec_driver_sql(opening)
            yield conn

    def _write_loop(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            batch = [job]
            stop = False
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH:
                    more = self._jobs.get_nowait()
                    if more is None:
                        stop = True
                        break
                    batch.append(more)
            wanted = [job for job in batch if job[1].set_running_or_notify_cancel()]
            try:
                if wanted:
                    self._commit(wanted)
            except BaseException as exc:  # a bug of ours must not end the thread that stores everything
                for _, future in wanted:
                    if not future.done():
                        future.set_exception(exc)
            if stop:
                return

    def _commit(self, batch: list[tuple[Write, Future[Any]]], tries: int = TRIES, careful: bool = False) -> None:
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        left: list[tuple[Write, Future[Any]]] = []
        enough = time.monotonic() + BATCH_S
        # A savepoint is two more messages to PostgreSQL for each write: there only once one of them has failed.
        saved = len(batch) > 1 and (careful or not self.shared)
        try:
            with self._transaction(len(batch) > 1) as conn:
                for index, (write, future) in enumerate(batch):
                    if index and time.monotonic() > enough:
                        left = batch[index:]
                        break
                    try:
                        if saved:
                            conn.exec_driver_sql("SAVEPOINT one")
                        done.append((future, write(conn)))
                        if saved:
                            conn.exec_driver_sql("RELEASE one")
                    except sa.exc.OperationalError:
                        raise
                    except Exception as exc:
                        if not saved:
                            raise  # the whole transaction is rolled back
                        conn.exec_driver_sql("ROLLBACK TO one")
                        failed.append((future, exc))
        except Exception as exc:
            away = self.shared and postgres.lost(exc)
            if self.shared and tries > 1:
                again = len(batch) == 1 and postgres.passing(exc)
                if again or (tries == TRIES and _stale(exc)):
                    self._commit(batch, tries - 1, careful)
                    return
            if len(batch) > 1 and not saved and not isinstance(exc, sa.exc.OperationalError | StoreError):
                self._commit(batch, tries, careful=True)
                return
            if len(batch) > 1 and not away:  # one by one: what can be saved is saved, what cannot says why
                for job in batch:
                    self._commit([job])
                return
            told = _explain(exc, str(self.engine.url)) if isinstance(exc, sa.exc.DatabaseError) else exc
            for _, future in batch:
                future.set_exception(told)
            return
        for future, result in done:
            future.set_result(result)
        for future, error in failed:
            future.set_exception(error)
        if left:
            self._commit(left)


def make_engine(url: str, application: str = "baremetal") -> Engine:
    """An engine as we need it; for SQLite: WAL, full sync, foreign keys, BEGIN IMMEDIATE for the writer."""
    if postgres.is_postgres(url):
        return postgres.make_engine(url, application)
    if not url.startswith("sqlite"):
        raise UsageError(f"no database is called {url.partition(':')[0]!r}", fix="sqlite:////path or postgresql://…")
    return _sqlite(url)


def _refuse_moved(engine: Engine) -> None:
    """A file that was moved holds the past: a server that went on with it would deploy what was deployed already."""
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as conn:
        gone = conn.execute(sa.text("SELECT value FROM site WHERE key = 'moved-to'")).scalar()
    if gone:
        raise MachineError(
            "this database was moved to PostgreSQL",
            detail=str(gone),
            fix='database = "postgresql://…" in the configuration; to go back for good: baremetal db restore FILE',
        )


def _stale(exc: BaseException) -> bool:
    """A pooled connection that the database closed meanwhile; a lost COMMIT is none: it may have been heard."""
    return isinstance(exc, sa.exc.DBAPIError) and postgres.lost(exc) and "COMMIT" not in str(exc.statement or "COMMIT")


def _sqlite(url: str) -> Engine:
    engine = sa.create_engine(
        url,
        pool_size=16,
        max_overflow=48,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        json_serializer=_json,
        json_deserializer=readable,
    )

    @sa.event.listens_for(engine, "connect")
    def _pragmas(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves
        cursor = raw.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "wal_autocheckpoint=2000",
            "mmap_size=134217728",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        if conn.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            conn.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Unreadable(dict[str, Any]):
    """What stands for a JSON column that holds no JSON: an empty mapping that can be told from one."""


def readable(text: str) -> Any:
    """The document; a broken one harms its own row, not the query that met it."""
    try:
        return json.loads(text)
    except ValueError:
        return Unreadable()


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _lock(url: str) -> Any:
    """One server per SQLite file; a second one is refused instead of corrupting the first one's view."""
    if postgres.is_postgres(url):
        return None
    parsed = sa.engine.make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    path = Path(parsed.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.with_name(path.name + ".lock").open("a")
    except OSError as exc:
        raise MachineError(f"cannot open {path}: {exc.strerror}", fix="check state_dir and who owns it") from exc
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        handle.close()
        raise MachineError(
            f"{path} is in use by another server",
            detail=f"{path}.lock is held",
            fix="stop the other `baremetal serve`, or use another state_dir",
        ) from exc
    return handle


def _unlock(lock: Any) -> None:
    if lock is not None:
        lock.close()


# What sqlite3 and psycopg say of a value of the wrong type.
UNFIT = ("Error binding parameter", "cannot adapt type")


def _explain(exc: Exception, url: str) -> StoreError:
    """SQLite's words, with what to do about them."""
    text = str(getattr(exc, "orig", None) or exc)
    if isinstance(exc, sa.exc.DataError) or any(word in text for word in UNFIT):
        return BadValue(f"database: {text.splitlines()[0]}", fix="a value that the database cannot hold was left out")
    if url.startswith("postgresql"):
        brief = text.splitlines()[0] if text else type(exc).__name__
        return StoreError(f"database: {brief}", detail=postgres.sqlstate(exc), fix=postgres.fix_for(exc))
    fixes = (
        ("disk is full", "free space on the file system of the state directory; nothing committed is lost"),
        ("database is locked", "another program holds the database: close it (sqlite3 shells too)"),
        ("readonly", "the state directory must be writable by the server's user"),
        ("malformed", "baremetal db check, then baremetal db restore"),
        ("not a database", "the file is not ours: restore a backup with baremetal db restore"),
        ("unable to open", "the state directory must exist and be writable"),
    )
    fix = next((fix for word, fix in fixes if word in text), "baremetal db check")
    return StoreError(
        f"database: {text.splitlines()[0] if text else type(exc).__name__}",
        detail=sa.engine.make_url(url).render_as_string(),
        fix=fix,
    )


@contextlib.contextmanager
def opened(url: str) -> Iterator[Store]:
    """`with opened(url) as store` for short programs and tests."""
    store = Store.open(url)
    try:
        yield store
    finally:
        store.close()
