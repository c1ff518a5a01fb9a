"""PostgreSQL: connections as we need them, and how it differs from SQLite in what it says.

A database URL is libpq's (`postgresql://user@host1,host2/name?…`): several hosts
and every libpq option work. Opens nothing itself; store.py and the engine do.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.ext.compiler import compiles

from baremetal.errors import MachineError, UsageError

SCHEMES = ("postgresql", "postgres")
# Seconds until a host that does not answer is given up; then libpq tries the next one of the URL.
CONNECT_S = 3
# A peer that vanished (cable, firewall) is noticed after about this long, whatever we were doing.
SILENCE_S = 6
STATEMENT_S = 20
# Two servers may write the same rows; who waits longer for one does it again.
LOCK_S = 8
# A server that stopped inside a transaction must not hold its locks: the database ends the session.
IDLE_IN_TRANSACTION_S = 10
DEFAULTS = {
    "connect_timeout": CONNECT_S,
    "target_session_attrs": "read-write",  # of several hosts, the one that takes writes
    "keepalives_idle": 2,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": SILENCE_S * 1000,
}
# What happens when two servers meet: done once more, it either works or says why it cannot.
AGAIN = frozenset({"40001", "40P01", "55P03", "23505", "23503"})
# The server goes, or is not the one we want: not the statement's fault.
AWAY = ("08", "57P", "25006")


@compiles(sa.String, "postgresql")
def _text(_type: Any, _compiler: Any, **_kw: Any) -> str:
    """Lengths in tables.py are documentation: SQLite never enforced them, so neither does PostgreSQL."""
    return "TEXT"


def is_postgres(url: str) -> bool:
    """Is this URL for us?"""
    return url.partition(":")[0].partition("+")[0] in SCHEMES


def conninfo(url: str, application: str = "baremetal", *, statement_s: int = STATEMENT_S, durable: bool = True) -> str:
    """libpq's connection string for the URL, with our defaults below what the URL says."""
    psycopg = _psycopg()
    scheme, _, rest = url.partition(":")
    if scheme.partition("+")[0] not in SCHEMES:
        raise UsageError(f"{scheme!r} is no PostgreSQL URL", fix="postgresql://user@host/name")
    try:
        said = psycopg.conninfo.conninfo_to_dict(f"postgresql:{rest}")
        options = " ".join(
            [
                f"-c statement_timeout={statement_s}s",
                f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S}s",
                f"-c lock_timeout={LOCK_S}s",
                *([] if durable else ["-c synchronous_commit=off"]),
                "-c TimeZone=UTC",
                said.pop("options", ""),
            ]
        ).strip()
        values = {**DEFAULTS, "application_name": application, "options": options, **said}
        return str(psycopg.conninfo.make_conninfo(**values))
    except psycopg.Error as exc:
        raise UsageError(
            f"the database URL cannot be read: {exc}", fix="write it like postgresql://baremetal@db.example/baremetal"
        ) from exc


def shown(url: str) -> str:
    """The URL for people: without the password."""
    said = _psycopg().conninfo.conninfo_to_dict(f"postgresql:{url.partition(':')[2]}")
    return f"postgresql://{said.get('user', '')}@{said.get('host', '')}:{said.get('port', '')}/{said.get('dbname', '')}"


def make_engine(
    url: str, application: str = "baremetal", *, statement_s: int = STATEMENT_S, durable: bool = True
) -> Engine:
    """SQLAlchemy's engine over psycopg; libpq reads the URL."""
    psycopg = _psycopg()
    text = conninfo(url, application, statement_s=statement_s, durable=durable)
    return sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(text, prepare_threshold=5),
        pool_size=8,
        max_overflow=56,
        pool_use_lifo=True,
        pool_pre_ping=False,
    )


def sqlstate(exc: BaseException) -> str:
    """PostgreSQL's five letters, "" when there are none."""
    return str(getattr(getattr(exc, "orig", exc), "sqlstate", None) or "")


def passing(exc: BaseException) -> bool:
    """Would the same transaction work when done again?"""
    return sqlstate(exc) in AGAIN


def lost(exc: BaseException) -> bool:
    """Is the connection (or the database) gone, rather than the statement wrong?"""
    code = sqlstate(exc)
    if getattr(exc, "connection_invalidated", False) or code.startswith(AWAY):
        return True
    return type(exc).__name__ in ("OperationalError", "ConnectionTimeout") and not code  # SQLAlchemy's, or psycopg's


def fix_for(exc: BaseException) -> str:
    """What to do about it."""
    code = sqlstate(exc)
    for start, fix in FIXES.items():
        if code.startswith(start):
            return fix
    for words, fix in WORDS.items():  # while it connects, libpq hands over words only
        if words in str(exc):
            return fix
    if lost(exc):
        return "the server goes on by itself when the database is back; look there: systemctl status postgresql"
    return "see PostgreSQL's log"


FIXES = {
    "53100": "free space on the database's file system; nothing committed is lost, the server goes on by itself",
    "53300": "raise max_connections in postgresql.conf: every server takes up to 70",
    "28": "check user and password of the database URL, and pg_hba.conf",
    "42501": "the database's user must own the database: ALTER DATABASE … OWNER TO …",
    "25006": "this is a standby: name all hosts in the URL, the one that takes writes is found",
    "57014": "the database is slow: look at its disk and at pg_stat_activity",
    "42P01": "the schema is not complete: baremetal db check",
}


WORDS = {
    "No space left": FIXES["53100"],
    "too many clients": FIXES["53300"],
    "authentication failed": FIXES["28"],
    "pg_hba.conf": FIXES["28"],
    "resolve host": "check the host's name in the database URL; this machine does not know it (DNS, /etc/hosts)",
    "does not exist": "create it: sudo -u postgres createdb -O baremetal baremetal",
}


def _psycopg() -> Any:
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as exc:
        raise MachineError(
            "PostgreSQL needs two more Python packages", detail=str(exc), fix="pip install 'baremetal[postgresql]'"
        ) from exc
    return psycopg
