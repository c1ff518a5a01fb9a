"""What keeps a server from joining others: another site's database, releases too far apart, half a schema, a pooler."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.errors import MachineError
from baremetal.store import postgres, schema, servers
from baremetal.store.servers import Server
from baremetal.store.tables import meta

SITE_KEY = "site-keys"
FLOOR_KEY = "schema-floor"
# Programs from this revision on can work with a database of ours: what was added since, they do not miss.
FLOOR = "0005"
RELEASES = 1  # servers of one site may be this many releases apart, while they are upgraded one by one


def refuse_other_site(conn: Connection, fingerprint: str) -> None:
    """Two sites on one database would switch each other's machines off: their keys tell them apart."""
    known = servers.said(conn, SITE_KEY)
    if known is None:
        servers.say(conn, SITE_KEY, fingerprint)
    elif known != fingerprint:
        raise MachineError(
            "this database belongs to another site",
            detail=f"its servers' keys are {known[:16]}…, ours are {fingerprint[:16]}…",
            fix="another server of the same site: copy state_dir/keys and state_dir/tls from the first one; "
            "another site: give it a database of its own",
        )


def refuse_skew(version: str, others: Iterable[Server]) -> None:
    """Old and new work side by side while servers are upgraded one by one, one release apart."""
    for other in others:
        apart = abs(release_of(version) - release_of(other.version))
        if apart > RELEASES:
            raise MachineError(
                f"server {other.name} runs version {other.version}, this one is {version}: {apart} releases apart",
                fix="upgrade one release at a time, every server before the next release",
            )


def release_of(version: str) -> int:
    """The release as a number: 0.7.3 is 7, 1.2 is 1002."""
    parts = [int(p) for p in re.findall(r"\d+", version)[:2]] + [0, 0]
    return parts[0] * 1000 + parts[1]


def raise_floor(conn: Connection, others: Iterable[Server]) -> None:
    """Note which programs can work with this schema; it rises only when none that lives would be shut out."""
    have = servers.said(conn, FLOOR_KEY)
    if have is None or (have < FLOOR and all(s.schema >= FLOOR for s in others)):
        servers.say(conn, FLOOR_KEY, FLOOR)


def refuse_half_done(conn: Connection) -> None:
    """A schema that says it is complete and is not: somebody restored half a dump, or stopped a copy."""
    have = set(sa.inspect(conn).get_table_names())
    missing = sorted(set(meta.tables) - have)
    if missing:
        raise MachineError(
            f"the database says schema {schema.HEAD}, but lacks {', '.join(missing[:5])}",
            fix="a restore or migration was not finished: restore a whole backup, or drop the database and move again",
        )


def refuse_transaction_pooler(url: str) -> None:
    """A pooler that gives every transaction another session breaks locks and news; one that keeps sessions is fine."""
    engine = postgres.make_engine(url, "baremetal-probe")
    auto: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
    name = int.from_bytes(os.urandom(4), "big") >> 1
    try:
        with engine.connect() as one, engine.connect() as two:
            one = one.execution_options(**auto)
            one.execute(sa.text("SELECT pg_advisory_lock(7270003, :n)"), {"n": name})
            with two.begin():
                two.execute(sa.text("SELECT 1"))  # takes the session that `one` gave back, if it gave one back
                held = one.execute(sa.text(_HELD), {"n": name}).scalar()
            if held:
                one.execute(sa.text("SELECT pg_advisory_unlock(7270003, :n)"), {"n": name})
                return
    except sa.exc.DBAPIError as exc:
        if "startup parameter" in str(exc):
            raise MachineError(
                "a connection pooler stands before the database and refuses our session settings",
                detail=str(exc.orig).splitlines()[0],
                fix="connect to PostgreSQL itself (PgBouncer listens on 6432, PostgreSQL on 5432)",
            ) from exc
        return  # Store.open says what is wrong
    finally:
        engine.dispose()
    raise MachineError(
        "a connection pooler in transaction mode stands before the database",
        detail="a session's advisory lock was gone with the next statement",
        fix="connect to PostgreSQL itself, or set pool_mode = session for this database",
    )


_HELD = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7270003 AND objid = :n "
    "AND pid = pg_backend_pid()"
)
