"""Deadlines of what nodes wait for, and the gaps in which nobody could hear that it came."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.store.servers import drivers, servers
from baremetal.store.tables import nodes

SPAN = "wait step"  # the topic of a wait that is only a span of time: nobody was to be heard meanwhile
GRACE_S = 60.0  # after a gap, what was waited for gets at least this long
_WORK = sa.cast(nodes.c.work, sa.Text)  # psycopg's JSON has a space after the colon, SQLite's ours has none


def extend(conn: Connection, until: float, me: str = "") -> int:
    """Waits that ended while nobody could listen get time until `until` (Unix seconds); how many.

    A node that another server than `me` drives was listened to all the time: what it waits for ends when it was to.
    """
    elsewhere = (
        sa.select(drivers.c.node_id)
        .join(servers, servers.c.id == drivers.c.server_id)
        .where(servers.c.ended_at.is_(None), servers.c.id != me)
    )
    span = sa.or_(*(_WORK.like(f'%"topic":{space}"{SPAN}"%') for space in ("", " ")))
    waits = nodes.update().where(nodes.c.wait_until < until, nodes.c.wanted.is_not(None), ~span)
    return conn.execute(waits.where(nodes.c.id.not_in(elsewhere)).values(wait_until=until)).rowcount
