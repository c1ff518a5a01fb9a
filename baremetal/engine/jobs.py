"""procrastinate as we use it: one task, its tables, and the questions its API has no call for.

A job is one tick of one node: `lock` lets one run at a time, `queueing_lock` lets one
wait. Its queue is its driver's own ("who has its BMC session, runs it"), or ANY.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from importlib import resources
from typing import Any

import procrastinate
import sqlalchemy as sa
from procrastinate.jobs import Job
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.schema import SchemaManager
from sqlalchemy.engine import Connection

from baremetal.errors import MachineError
from baremetal.store import postgres, servers

log = logging.getLogger(__name__)

TASK = "baremetal.tick"
ANY = "any"
URGENT = 10  # an agent waits for the answer
SITE_KEY = "procrastinate"

# What is known of these nodes: their living driver, and whether a tick of them waits or runs.
LOOK = """
SELECT n.id AS node, s.id AS server,
  EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.queueing_lock = n.id AND j.status = 'todo') AS waits,
  EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.lock = n.id AND j.status = 'doing') AS runs
FROM unnest(%(ids)s::text[]) AS n(id)
LEFT JOIN drivers d ON d.node_id = n.id
LEFT JOIN servers s ON s.id = d.server_id AND s.ended_at IS NULL
"""
# This server drives the node from now on; nothing when it does already, or the node is gone.
DRIVE = """
INSERT INTO drivers (node_id, server_id, since)
SELECT id, %(me)s, extract(epoch from clock_timestamp()) FROM nodes WHERE id = %(node)s
ON CONFLICT (node_id) DO UPDATE SET server_id = excluded.server_id, since = excluded.since
WHERE drivers.server_id <> excluded.server_id
"""
REST = "DELETE FROM drivers WHERE node_id = %(node)s AND server_id = %(me)s"
# An agent reported: the tick that waits already goes before others.
HURRY = "UPDATE procrastinate_jobs SET priority = %(urgent)s WHERE queueing_lock = ANY(%(ids)s) AND status = 'todo'"
# Ticks that nobody runs any more: their worker is gone, or belongs to a life that is over.
ORPHANS = """
SELECT j.id AS id, j.lock AS node FROM procrastinate_jobs j
LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE j.status = 'doing' AND (
  w.id IS NULL
  OR EXISTS (SELECT 1 FROM servers s WHERE s.worker = w.id AND s.ended_at IS NOT NULL)
  OR (w.last_heartbeat < now() - make_interval(secs => %(stale_s)s)
      AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.worker = w.id AND s.ended_at IS NULL)))
"""
# Ticks that the database takes for this worker's.
OURS = "SELECT id, lock AS node FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = %(worker)s"
# Ticks that wait for a driver whose life is over: anybody's now.
FREE = """
UPDATE procrastinate_jobs SET queue_name = 'any' WHERE status = 'todo' AND queue_name <> 'any'
AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = queue_name AND s.ended_at IS NULL)
RETURNING lock AS node
"""


def make_app(
    url: str, instance: str, connections: int, made: Callable[[Any], None] = lambda _conn: None
) -> procrastinate.App:
    """An app over its own pool of connections; not opened. `made` hears of each connection."""
    # What is lost of the queue with the database's machine, the sweep finds in the node rows: no waiting for disks.
    text = postgres.conninfo(url, f"bm:{instance}:ticks", durable=False)

    async def configure(conn: Any) -> None:
        await conn.set_autocommit(True)  # each of procrastinate's statements stands for itself
        made(conn)

    connector = PsycopgConnector(
        pool_factory=_pool, conninfo=text, configure=configure, min_size=2, max_size=connections, timeout=5.0
    )
    return procrastinate.App(connector=connector)


def _pool(**options: Any) -> Any:
    """Connections are not asked whether they are alive each time: who meets a dead one tries again."""
    from psycopg_pool import AsyncConnectionPool

    return AsyncConnectionPool(**{**options, "check": None})


def job(app: procrastinate.App, node: str, at: float, queue: str, *, urgent: bool) -> Job:
    """One tick of a node, due at `at`."""
    priority = URGENT if urgent else 0
    made = app.configure_task(TASK, queue=queue, lock=node, queueing_lock=node, priority=priority).job
    return made.evolve(task_kwargs={"node": node, "at": at})


def ensure_tables(conn: Connection, alone: bool) -> None:
    """Make procrastinate's tables, or bring them up to the version installed.

    What its authors call "post" migrations takes away what older versions use: only when no other server lives.
    """
    conn.exec_driver_sql("SELECT pg_advisory_xact_lock(7270002)")
    ours = procrastinate.__version__
    theirs = servers.said(conn, SITE_KEY)
    if conn.execute(sa.text("SELECT to_regclass('procrastinate_jobs')")).scalar() is None:
        _script(conn, SchemaManager.get_schema())
        servers.say(conn, SITE_KEY, ours)
        return
    if theirs is None:
        raise MachineError(
            "this database has procrastinate tables that are not ours",
            fix="give baremetal a database of its own: createdb -O baremetal baremetal",
        )
    if _number(theirs) >= _number(ours):
        return
    scripts = [f for f in resources.files("procrastinate.sql.migrations").iterdir() if f.name.endswith(".sql")]
    todo = sorted((f for f in scripts if _number(f.name) > _number(theirs)), key=lambda f: f.name)
    if any("_post_" in f.name for f in todo) and not alone:
        todo = [f for f in todo if "_post_" not in f.name]
        ours = theirs  # the next server that starts alone does the rest
    for script in todo:
        log.info("procrastinate: %s", script.name)
        _script(conn, script.read_text())
    servers.say(conn, SITE_KEY, ours)


def _script(conn: Connection, text: str) -> None:
    """Several statements at once: psycopg does that when there are no parameters."""
    raw: Any = conn.connection.driver_connection
    raw.execute(text)


def _number(text: str) -> tuple[int, ...]:
    """The version at the start of a text."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
