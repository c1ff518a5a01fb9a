"""Nodes as JSON text, kept while their rows have not changed: a list of 1,000 is then one query and a join.

A kept text is used only if the row's mark is still the one it was made from, so
nobody has to tell the shelf of a change, and another server's writes count too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.api.http import dumps
from baremetal.api.ironic import fields
from baremetal.model.node import Node
from baremetal.store import nodes
from baremetal.store.tables import nodes as table

MOST_BYTES = 32 * 1024 * 1024  # of text kept; 10,000 nodes in full are 27 MB
SHAPES = 12  # different wishes (host, version, fields) kept a node
CHUNK = 200  # rows read at once when texts are made

# What of a row changes when anything shown of it does: `fence` with every save, `evidence` with every
# note, power with every look at it.
_MARK = (table.c.fence, table.c.evidence, table.c.power)
_ONE = sa.select(table.c.id, *_MARK).where(table.c.id == sa.bindparam("ref"))
_NAMED = sa.select(table.c.id, *_MARK).where(table.c.name == sa.bindparam("ref"))
_PAGE = (
    sa.select(table.c.id, table.c.name, *_MARK)
    .where(table.c.name > sa.bindparam("after"))
    .order_by(table.c.name)
    .limit(sa.bindparam("most"))
)

Mark = tuple[int, int, str]
Test = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Shape:
    """How a node is to be shown: to whom (host), at which version, which fields (None: all)."""

    base: str
    minor: int
    fields: tuple[str, ...] | None = None


_LEAST = Shape("", 1, ("uuid",))


@dataclass(slots=True)
class _Kept:
    mark: Mark
    facts: dict[str, Any]
    texts: dict[Shape, bytes] = field(default_factory=dict)


class Shelf:
    """One a server."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0
        self._lock = threading.RLock()  # the API's thread, readers' threads and the control loop all put
        self.making = asyncio.Lock()  # many who ask for the same long list at once: the texts are made once

    def one(self, conn: Connection, ref: str, shape: Shape) -> tuple[bytes, dict[str, Any]] | None:
        """(JSON text, facts) of a node by id or name; None when there is none."""
        row = conn.execute(_ONE, {"ref": ref}).first() or conn.execute(_NAMED, {"ref": ref}).first()
        if row is None:
            return None
        node_id, mark = row[0], (row[1], row[2], row[3])
        text = self._text(node_id, mark, shape)
        if text is None:
            node = nodes.find(conn, node_id)
            if node is None:
                return None
            return self.shelve(node, shape)
        kept = self._kept.get(node_id)
        if kept is None:  # another thread dropped it since
            return self.one(conn, node_id, shape)
        return text, kept.facts

    def facts(self, conn: Connection, ref: str) -> dict[str, Any] | None:
        """The facts of a node by id or name; None when there is none."""
        found = self.one(conn, ref, _LEAST)
        return found[1] if found else None

    def put(self, node: Node, shape: Shape) -> bytes:
        """Make the text of this node, and keep it."""
        return self.shelve(node, shape)[0]

    def shelve(self, node: Node, shape: Shape) -> tuple[bytes, dict[str, Any]]:
        """The same, with the node's facts."""
        with self._lock:
            return self._shelve(node, shape)

    def _shelve(self, node: Node, shape: Shape) -> tuple[bytes, dict[str, Any]]:
        mark = (node.fence, node.evidence, str(node.power))
        doc = fields.node_doc(node, shape.base, 110)
        kept = self._kept.get(node.id)
        if kept is None or kept.mark != mark or len(kept.texts) >= SHAPES:
            self.drop(node.id)
            facts = {name: doc.get(name) for name in FACTS}
            facts["agent"] = (node.extra.get("ironic") or {}).get("agent")
            kept = self._kept[node.id] = _Kept(mark, facts)
        names = fields.names(shape.minor) if shape.fields is None else (*shape.fields, "links")
        text = dumps({name: doc[name] for name in names})
        kept.texts[shape] = text
        self._bytes += len(text)
        while self._bytes > MOST_BYTES and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            if oldest == node.id:
                self._kept[oldest] = self._kept.pop(oldest)  # the newest is not dropped for itself
                continue
            self.drop(oldest)
        return text, kept.facts

    def drop(self, node_id: str) -> None:
        """Forget what was kept of this node."""
        with self._lock:
            kept = self._kept.pop(node_id, None)
            if kept is not None:
                self._bytes -= sum(map(len, kept.texts.values()))

    def page(
        self, conn: Connection, rows: Sequence[Any], limit: int, shape: Shape, test: Test | None
    ) -> tuple[list[bytes], str | None]:
        """(texts, id of the last one when there are more) of the nodes by name, from `rows` on."""
        found: list[bytes] = []
        last = ""
        while True:
            self._make(conn, rows, shape)
            for row in rows:
                shown = self._shown(conn, row, shape)
                if shown is None or (test is not None and not test(shown[1])):
                    continue
                text = shown[0]
                if len(found) == limit:
                    return found, last
                found.append(text)
                last = row[0]
            if len(rows) <= limit:
                return found, None
            rows = self.rows(conn, rows[-1][1], limit)

    def _shown(self, conn: Connection, row: Any, shape: Shape) -> tuple[bytes, dict[str, Any]] | None:
        """Text and facts of a row; read again when it changed, or was dropped, since the query."""
        kept = self._kept.get(row[0])
        text = kept.texts.get(shape) if kept is not None and kept.mark == (row[2], row[3], row[4]) else None
        return (text, kept.facts) if kept is not None and text is not None else self.one(conn, row[0], shape)

    def rows(self, conn: Connection, after: str, limit: int) -> Sequence[Any]:
        """(id, name, mark) of the nodes by name after `after`, one more than the limit."""
        return conn.execute(_PAGE, {"after": after, "most": limit + 1}).all()

    def cold(self, rows: Sequence[Any], shape: Shape) -> int:
        """How many texts of these rows would have to be made."""
        return sum(self._text(row[0], (row[2], row[3], row[4]), shape) is None for row in rows)

    def _make(self, conn: Connection, rows: Sequence[Any], shape: Shape) -> None:
        cold = [row[0] for row in rows if self._text(row[0], (row[2], row[3], row[4]), shape) is None]
        for start in range(0, len(cold), CHUNK):
            for node in nodes.many(conn, cold[start : start + CHUNK]):
                self.put(node, shape)

    def _text(self, node_id: str, mark: Mark, shape: Shape) -> bytes | None:
        kept = self._kept.get(node_id)
        return kept.texts.get(shape) if kept is not None and kept.mark == mark else None


# What lists can be filtered by.
FACTS = (
    "uuid",
    "provision_state",
    "maintenance",
    "instance_uuid",
    "driver",
    "resource_class",
    "fault",
    "owner",
    "lessee",
    "retired",
    "conductor_group",
    "chassis_uuid",
    "description",
    "parent_node",
    "shard",
    "instance_name",
)
