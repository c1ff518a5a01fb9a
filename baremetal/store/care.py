"""Care of the database: backup while running, check, restore."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.errors import BaremetalError, MachineError, UsageError
from baremetal.store import nodes as node_rows
from baremetal.store import schema
from baremetal.store.damaged import DAMAGED
from baremetal.store.seal import Sealer
from baremetal.store.store import Store
from baremetal.store.tables import metadata_documents, metadata_layers, nodes, secrets


def backup(store: Store, to: Path) -> int:
    """A consistent copy while the server runs; bytes written. Never overwrites."""
    if store.path is None:
        raise UsageError("this database is not a file", fix="use pg_dump")
    if to.exists():
        raise UsageError(f"{to} exists already", fix="choose another file name")
    part = to.with_name(to.name + ".part")
    part.unlink(missing_ok=True)
    source = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
    target = sqlite3.connect(part)
    try:
        os.chmod(part, 0o600)
        source.backup(target, pages=1000, sleep=0.005)
    except sqlite3.Error as exc:
        part.unlink(missing_ok=True)
        raise MachineError(f"the backup failed: {exc}", fix="check space and rights of the target directory") from exc
    finally:
        source.close()
        target.close()
    part.replace(to)
    return to.stat().st_size


def restore(url: str, backup_file: Path) -> Path | None:
    """Put a backup in place of the database (the server must be down); the old file, kept beside it."""
    found = problems_of(backup_file)
    if found:
        raise UsageError(f"{backup_file} is no sound backup: {found[0]}", fix="take another backup file")
    name = sa.engine.make_url(url).database
    if not name or sa.engine.make_url(url).get_backend_name() != "sqlite":
        raise UsageError("this database is not a file", fix="use pg_restore")
    target = Path(name)
    with _exclusive(target):
        fresh = _copied(backup_file, target.with_name(target.name + ".restoring"))
        old = None
        if target.exists():
            old = target.with_name(f"{target.name}.before-restore-{time.strftime('%Y%m%d-%H%M%S')}")
            os.link(target, old)  # the name is never without a database: a server would make an empty one
        for tail in ("-wal", "-shm"):
            leftover = target.with_name(target.name + tail)
            if leftover.exists() and old is not None:
                leftover.replace(old.with_name(old.name + tail))
        fresh.replace(target)
    return old


def _copied(file: Path, to: Path) -> Path:
    """A copy that only its owner can read, on the disk for good before it takes the place of the database."""
    to.unlink(missing_ok=True)
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with file.open("rb") as source, os.fdopen(descriptor, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
        sink.flush()
        os.fsync(sink.fileno())
    return to


def problems_of(path: Path) -> list[str]:
    """What is wrong with a database file that nobody has open; empty when it is sound and ours."""
    if not path.is_file():
        return [f"{path} does not exist"]
    try:
        raw = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            told = [row[0] for row in raw.execute("PRAGMA integrity_check(20)")]
            version = raw.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            raw.close()
    except sqlite3.Error as exc:
        return [f"{exc}"]
    found = [] if told == ["ok"] else told
    if version is None or version[0] > schema.HEAD:
        found.append(f"schema {version and version[0]} is not known here (newest known: {schema.HEAD})")
    return found


def check(conn: Connection, *sealers: Sealer) -> list[str]:
    """What is wrong: pages, references, rows that cannot be read, secrets that do not open."""
    found: list[str] = []
    if conn.dialect.name == "sqlite":
        told = [str(row[0]) for row in conn.exec_driver_sql("PRAGMA integrity_check(20)")]
        found += [] if told == ["ok"] else told
        broken = conn.exec_driver_sql("PRAGMA foreign_key_check").all()
        found += [f"{row[0]} row {row[1]} refers to a missing {row[2]}" for row in broken]
    found += _bad_nodes(conn)
    return found + (_bad_seals(conn, *sealers) if sealers else [])


def _bad_nodes(conn: Connection) -> list[str]:
    found = []
    for (node_id,) in conn.execute(sa.select(nodes.c.id)).all():
        try:
            node = node_rows.get(conn, node_id)
        except Exception as exc:
            found.append(f"node {node_id} cannot be read: {type(exc).__name__}: {exc}")
            continue
        if node.fault and node.fault.code == DAMAGED:
            found.append(f"{node.fault.brief} ({node.fault.detail})")
    return found


def _bad_seals(conn: Connection, operator: Sealer, metadata: Sealer) -> list[str]:
    owned = [(row.owner, row.field, row.sealed) for row in conn.execute(sa.select(secrets))]
    places = [(metadata if owner == "site" else operator, owner, field, sealed) for owner, field, sealed in owned]
    rows = conn.execute(sa.select(metadata_layers))
    places += [(metadata, f"{row.layer}/{row.name}", "values", row.sealed) for row in rows]
    places += [(metadata, row.node_id, "document", row.sealed) for row in conn.execute(sa.select(metadata_documents))]
    found = []
    for sealer, owner, field, sealed in places:
        try:
            sealer.open(sealed, owner, field)
        except BaremetalError as exc:
            found.append(exc.brief)
    return found


class _exclusive:
    """The server's own lock: refuses while a server has the database open."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        from baremetal.store.store import _lock

        self._handle = _lock(f"sqlite:///{self._path}")

    def __exit__(self, *exc: object) -> None:
        if self._handle is not None:
            self._handle.close()
