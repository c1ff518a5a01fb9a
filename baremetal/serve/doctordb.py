"""Doctor's look at PostgreSQL: does it answer, take writes, keep the same time, and have room for another server?"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baremetal.config import Settings, is_postgres
from baremetal.engine.lease import check_clock
from baremetal.serve.finding import FAIL, PASS, WARN, Finding
from baremetal.store import postgres

NEEDS = 70  # sessions that one server may take
ASK = (
    "SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby, "
    "extract(epoch FROM clock_timestamp())::float AS now, current_setting('max_connections')::int AS most, "
    "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used, "
    "has_database_privilege(current_database(), 'CREATE') AS owns"
)


def database(settings: Settings) -> Iterator[Finding]:
    """With SQLite there is nothing to reach."""
    if not is_postgres(settings.database):
        return
    import psycopg
    from psycopg.rows import dict_row

    try:
        with psycopg.connect(postgres.conninfo(_as_server(settings), "baremetal-doctor"), row_factory=dict_row) as conn:
            found = conn.execute(ASK).fetchone() or {}
    except psycopg.Error as exc:
        said = " ".join(line.strip() for line in str(exc).splitlines()[:2])
        yield Finding("database", FAIL, said, postgres.fix_for(exc))
        return
    yield from judge(found, settings, time.time())


def judge(found: dict[str, Any], settings: Settings, now: float) -> Iterator[Finding]:
    """What PostgreSQL said of itself."""
    free = int(found["most"]) - int(found["used"])
    if found["standby"]:
        yield Finding("database", FAIL, "a standby answers: it takes no writes", postgres.FIXES["25006"])
    elif not found["owns"]:
        yield Finding("database", FAIL, "its user may make no tables", postgres.FIXES["42501"])
    elif free < NEEDS and int(found["most"]) < 2 * NEEDS:
        told = f"{found['used']} of {found['most']} sessions are taken; a server takes up to {NEEDS}"
        yield Finding("database", WARN, told, "raise max_connections in postgresql.conf (300)")
    else:
        yield Finding("database", PASS, f"PostgreSQL {found['version']} at {postgres.shown(settings.database)}")
    if words := check_clock(now - float(found["now"])):
        yield Finding("database clock", WARN, f"{words}: deadlines follow the database's", "set both right (chrony)")


def _as_server(settings: Settings) -> str:
    """The URL with the password file of the server's user: doctor is called as root."""
    if os.geteuid() != 0 or not settings.user or "passfile=" in settings.database:
        return settings.database
    try:
        file = Path(pwd.getpwnam(settings.user).pw_dir) / ".pgpass"
    except KeyError:
        return settings.database
    if not file.exists():
        return settings.database
    return settings.database + ("&" if "?" in settings.database else "?") + f"passfile={file}"
