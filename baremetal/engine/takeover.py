"""Ends the life of a server that says no more that it lives. Its sessions are ended first: nothing is half done."""

from __future__ import annotations

import logging

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.engine import lease
from baremetal.store import servers, waits
from baremetal.store.servers import Server

log = logging.getLogger(__name__)


def end_silent(conn: Connection, me: str) -> list[tuple[Server, list[str]]]:
    """Every server that was not heard for TAKEOVER_S, with the nodes it drove."""
    limit = servers.now(conn) - lease.TAKEOVER_S
    silent = [s for s in servers.alive(conn) if s.id != me and s.beat_at < limit]
    return [(s, nodes) for s in silent if (nodes := end(conn, s, me, limit)) is not None]


def end(conn: Connection, server: Server, by: str, limit: float | None = None) -> list[str] | None:
    """Its life is over; the nodes it drove. None when it beat since `limit`, or was ended before.

    A life ends in one transaction that waits for whatever the server still commits.
    """
    with conn.engine.connect() as mine:
        if limit is not None and _beat(mine, server.id) >= limit:
            return None
        lease.terminate(mine, server.id)
        mine.rollback()
        with mine.begin():
            locked = sa.select(servers.servers.c.beat_at).where(servers.servers.c.id == server.id).with_for_update()
            beat = mine.execute(locked).scalar()
            if beat is None or (limit is not None and beat >= limit) or not servers.end(mine, server.id, by):
                return None
            nodes = servers.release_all(mine, [server.id])
            waits.extend(mine, servers.now(mine) + waits.GRACE_S)
        lease.terminate(mine, server.id)
        mine.rollback()
    log.warning("server %s (%s) was not heard: its %d nodes are taken over", server.name, server.id, len(nodes))
    return nodes


def _beat(conn: Connection, instance: str) -> float:
    found = conn.execute(sa.select(servers.servers.c.beat_at).where(servers.servers.c.id == instance)).scalar()
    return float(found or 0.0)
