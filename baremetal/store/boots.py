"""Boots: one row each time a node is started for a purpose, with its nonce and token."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.store import prepared
from baremetal.store.tables import boots

RAMDISK = "ramdisk"
INSTANCE = "instance"


@dataclass(frozen=True)
class Boot:
    """`stage` is how far the start got: minted, off, device, on, up. Times are Unix seconds.

    `nonce_key` is sealed text and NULL once a hello used it; `nonce_serial` is
    the greatest serial (milliseconds) known to be handed out.
    """

    id: str
    node_id: str
    purpose: str
    stage: str = "minted"
    nonce_key: str | None = None
    nonce_serial: int | None = None
    token_sha256: str | None = None
    created_at: float = 0.0
    powered_at: float | None = None
    hello_at: float | None = None
    last_beat: float | None = None
    ended_at: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Not ended."""
        return self.ended_at is None


_FIELDS = tuple(f.name for f in dataclasses.fields(Boot))


def from_row(row: Any) -> Boot:
    """A row as a boot."""
    return Boot(**{name: row._mapping[name] for name in _FIELDS})


_KEY = boots.c.id == sa.bindparam("k_id")
_OLDER = sa.and_(_KEY, sa.func.coalesce(boots.c.last_beat, 0) < sa.bindparam("k_at"))
_LIVE_ALL = sa.and_(boots.c.node_id == sa.bindparam("k_node"), boots.c.ended_at.is_(None))
_LIVE_FOR = sa.and_(_LIVE_ALL, boots.c.purpose == sa.bindparam("k_purpose"))
_NEWER = sa.func.coalesce(boots.c.last_beat, 0) < sa.bindparam("k_at")
_BEAT_OF_BOOT = boots.update().where(_KEY, _NEWER).values(last_beat=sa.bindparam("k_at"))
_BEAT_OF_NODE = (
    boots.update().where(_LIVE_ALL, boots.c.purpose == INSTANCE, _NEWER).values(last_beat=sa.bindparam("k_at"))
)
_BY_ID = sa.select(boots).where(boots.c.id == sa.bindparam("ref"))
_LIVE = sa.select(boots).where(boots.c.node_id == sa.bindparam("ref"), boots.c.ended_at.is_(None))


def get(conn: Connection, boot_id: str | None) -> Boot | None:
    """One boot."""
    row = conn.execute(_BY_ID, {"ref": boot_id}).first() if boot_id else None
    return from_row(row) if row else None


def by_token(conn: Connection, digest: str) -> Boot | None:
    """The running boot whose token has this SHA-256."""
    query = sa.select(boots).where(boots.c.token_sha256 == digest, boots.c.ended_at.is_(None))
    row = conn.execute(query).first() if digest else None
    return from_row(row) if row else None


def live(conn: Connection, node_id: str) -> dict[str, Boot]:
    """The node's running boots by purpose (at most one each)."""
    found = [from_row(row) for row in conn.execute(_LIVE, {"ref": node_id})]
    return {boot.purpose: boot for boot in sorted(found, key=lambda b: b.created_at)}


def all_live(conn: Connection) -> dict[str, dict[str, Boot]]:
    """Running boots of every node."""
    found: dict[str, dict[str, Boot]] = {}
    for row in conn.execute(sa.select(boots).where(boots.c.ended_at.is_(None)).order_by(boots.c.created_at)):
        found.setdefault(row.node_id, {})[row.purpose] = from_row(row)
    return found


def of_node(conn: Connection, node_id: str, limit: int = 20) -> list[Boot]:
    """The node's boots, newest first."""
    query = sa.select(boots).where(boots.c.node_id == node_id).order_by(boots.c.created_at.desc()).limit(limit)
    return [from_row(row) for row in conn.execute(query)]


def insert(conn: Connection, boot: Boot) -> None:
    """A new boot; the node's earlier one of the same purpose ends, and its token with it."""
    end(conn, boot.node_id, boot.created_at, boot.purpose)
    conn.execute(prepared.insert(boots), {name: getattr(boot, name) for name in _FIELDS})


def change(conn: Connection, boot_id: str, **columns: Any) -> None:
    """Write these columns."""
    prepared.update(conn, boots, _KEY, {"id": boot_id}, columns, "by id")


def beat(conn: Connection, boot_id: str, at: float) -> None:
    """The agent was heard; late messages never move the time back."""
    prepared.update(conn, boots, _OLDER, {"id": boot_id, "at": at}, {"last_beat": at}, "beat")


def beats(conn: Connection, of_boots: dict[str, float], of_nodes: dict[str, float]) -> None:
    """Many beats: by boot id, and of deployed systems by node id."""
    if of_boots:
        conn.execute(_BEAT_OF_BOOT, [{"k_id": i, "k_at": at} for i, at in of_boots.items()])
    if of_nodes:
        conn.execute(_BEAT_OF_NODE, [{"k_node": i, "k_at": at} for i, at in of_nodes.items()])


def end(conn: Connection, node_id: str, now: float, purpose: str | None = None) -> None:
    """The node's boots (of this purpose) are over: tokens and nonces are dead."""
    values = {"ended_at": now, "nonce_key": None, "token_sha256": None}
    if purpose:
        prepared.update(conn, boots, _LIVE_FOR, {"node": node_id, "purpose": purpose}, values, "end purpose")
    else:
        prepared.update(conn, boots, _LIVE_ALL, {"node": node_id}, values, "end all")


def shift_times(conn: Connection, delta_s: float) -> None:
    """The clock jumped: what was heard lately stays lately."""
    moved = {name: boots.c[name] + delta_s for name in ("created_at", "powered_at", "hello_at", "last_beat")}
    conn.execute(boots.update().where(boots.c.ended_at.is_(None)).values(moved))
