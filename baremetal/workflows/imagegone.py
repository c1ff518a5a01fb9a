"""Deleting an image: refused while any node of the site refers to it, remembered for the servers that have it too.

A deletion is a record in the database. A server that announced the image before it saw the record drops its copy;
who has the image newly (added again, also while that server was down) takes the record back.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.store import records, tables

KIND = "image-deleted"
KEPT_S = 366 * 86400.0


def users(conn: Connection, image: Any) -> list[str]:
    """Names of the nodes that have this image, or are about to get it; of all servers' nodes."""
    nodes = tables.nodes
    query = sa.select(nodes.c.name, nodes.c.image_id, nodes.c.work, nodes.c.wanted, nodes.c.wanted_args)
    rows = conn.execute(
        query.where((nodes.c.image_id == image.id) | nodes.c.wanted.is_not(None)).order_by(nodes.c.name)
    )
    return [row.name for row in rows if row.image_id == image.id or _wants(row, image)]


def _wants(row: Any, image: Any) -> bool:
    asked = {str(row.work.get("image") or ""), str(row.wanted_args.get("image") or "")}
    return row.wanted is not None and bool(asked & {image.id, _hex(image.id), image.name, *image.tags})


def remember(conn: Connection, image: Any, by: str, server: str, now: float) -> None:
    """It was deleted: everywhere."""
    records.put(conn, KIND, _hex(image.id), {"name": image.name, "by": by, "server": server}, now)


def remembered(conn: Connection) -> dict[str, dict[str, Any]]:
    """hex id -> who deleted it, and where."""
    return {row.name: row.doc for row in records.of_kind(conn, KIND)}


def forget(conn: Connection, now: float) -> None:
    """Deletions of long ago: every server that had the image has been up since."""
    for row in records.of_kind(conn, KIND):
        if row.updated_at < now - KEPT_S:
            records.delete(conn, row.id)


def take_back(conn: Connection, hex_id: str) -> None:
    """It was added again."""
    if row := records.find(conn, KIND, hex_id):
        records.delete(conn, row.id)


def _hex(image_id: str) -> str:
    return image_id.removeprefix("sha256:")
