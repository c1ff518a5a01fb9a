"""What is long over is forgotten: events, lives of servers, deletions of images."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from baremetal.store import events, servers
from baremetal.workflows import imagegone


def prune(conn: Connection, keep_days: float, now: float) -> None:
    """Older than `keep_days`; image deletions are kept longer (imagegone.py)."""
    before = now - keep_days * 86400
    events.prune(conn, before)
    servers.forget(conn, before)
    imagegone.forget(conn, now)
