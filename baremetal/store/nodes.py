"""Nodes: rows to model.Node and back, saved under a fence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.errors import NotFound, Refused
from baremetal.model.fault import Fault
from baremetal.model.node import Firmware, Node, Power, State, Wait
from baremetal.store import damaged, prepared
from baremetal.store.store import Fenced
from baremetal.store.tables import nodes

_PLAIN = tuple(
    f.name for f in dataclasses.fields(Node) if f.name not in ("wait", "fault", "traits", "state", "power", "firmware")
)
_NODE_BY_ID = sa.select(nodes).where(nodes.c.id == sa.bindparam("ref"))
_FENCE = sa.select(nodes.c.fence).where(nodes.c.id == sa.bindparam("ref"))
_MARK = sa.select(nodes.c.fence, nodes.c.evidence).where(nodes.c.id == sa.bindparam("ref"))
_ID_BY_NAME = sa.select(nodes.c.id).where(nodes.c.name == sa.bindparam("ref"))
_NODE_BY_NAME = sa.select(nodes).where(nodes.c.name == sa.bindparam("ref"))


def to_row(node: Node) -> dict[str, Any]:
    """The node as column values."""
    row = {name: getattr(node, name) for name in _PLAIN}
    row |= {
        "state": str(node.state),
        "power": str(node.power),
        "firmware": str(node.firmware),
        "traits": list(node.traits),
    }
    row["fault"] = node.fault.to_json() if node.fault else None
    wait = node.wait
    row |= {"wait_because": wait and wait.because, "wait_until": wait and wait.until, "wait_since": wait and wait.since}
    return row


def from_row(row: Any) -> Node:
    """A row as a node; one that cannot be read is a node with a fault that says so, and harms no other."""
    doc = row._mapping
    try:
        return _read(doc)
    except (ValueError, TypeError, AttributeError, KeyError) as exc:
        return damaged.node(doc, exc)


def _read(doc: Any) -> Node:
    damaged.check(doc)
    wait = None
    if doc["wait_because"] is not None:
        wait = Wait(doc["wait_because"], doc["wait_until"], doc["wait_since"])
    return Node(
        **{name: doc[name] for name in _PLAIN},
        state=State(doc["state"]),
        power=Power(doc["power"]),
        firmware=Firmware(doc["firmware"]),
        traits=tuple(doc["traits"]),
        fault=Fault.from_json(doc["fault"]) if doc["fault"] else None,
        wait=wait,
    )


def find(conn: Connection, ref: str) -> Node | None:
    """By id, else by name."""
    row = conn.execute(_NODE_BY_ID, {"ref": ref}).first() or conn.execute(_NODE_BY_NAME, {"ref": ref}).first()
    return from_row(row) if row else None


def get(conn: Connection, ref: str) -> Node:
    """By id or name; NotFound otherwise."""
    node = find(conn, ref)
    if node is None:
        raise NotFound(f"no node {ref!r}", fix="baremetal node list")
    return node


def named(conn: Connection, name: str) -> str | None:
    """The id of the node of this name."""
    return conn.execute(_ID_BY_NAME, {"ref": name}).scalar()


def insert(conn: Connection, node: Node) -> None:
    """A new node; the name must be free."""
    if named(conn, node.name):
        raise Refused(
            f"there is a node named {node.name!r} already",
            fix=f"baremetal node show {node.name}, or choose another name",
        )
    conn.execute(prepared.insert(nodes), to_row(node))


def save(conn: Connection, before: Node, after: Node, now: float) -> Node:
    """Write what changed since `before` was read; Fenced when somebody else wrote in between.

    Evidence that came in meanwhile is not lost: then the node is due at once. What is returned counts it.
    """
    old, new = to_row(before), to_row(after)
    new |= {"fence": before.fence + 1, "updated_at": now}
    changes = {k: v for k, v in new.items() if old[k] != v and k not in ("evidence", "wake_at")}
    key = tuple(sorted(changes))
    statement = _SAVES.get(key)
    if statement is None:
        statement = _SAVES[key] = _save_statement(key)
    bound: dict[str, Any] = {f"v_{k}": v for k, v in changes.items()}
    bound |= {
        "k_id": before.id,
        "k_fence": before.fence,
        "k_evidence": before.evidence,
        "k_now": now,
        "k_wake": after.wake_at,
    }
    row = conn.execute(statement, bound).first()
    if row is None:
        raise Fenced(f"{before.name} was changed meanwhile")
    return dataclasses.replace(after, fence=before.fence + 1, updated_at=now, evidence=row[0], wake_at=row[1])


_SAVES: dict[tuple[str, ...], Any] = {}


def _save_statement(columns: tuple[str, ...]) -> Any:
    values: dict[str, Any] = {c: sa.bindparam(f"v_{c}", type_=nodes.c[c].type) for c in columns}
    wake = sa.bindparam("k_wake", type_=sa.Float)
    heard = nodes.c.evidence != sa.bindparam("k_evidence")
    values["wake_at"] = sa.case((heard, sa.bindparam("k_now", type_=sa.Float)), else_=wake)
    where = (nodes.c.id == sa.bindparam("k_id"), nodes.c.fence == sa.bindparam("k_fence"))
    return nodes.update().where(*where).values(values).returning(nodes.c.evidence, nodes.c.wake_at)


_BY_ID = nodes.c.id == sa.bindparam("k_id")
_NOTES: dict[tuple[str, ...], Any] = {}


def note(conn: Connection, node_id: str, now: float, **columns: Any) -> bool:
    """Evidence came in: write these columns if any and make the node due. No fence: facts do not compete."""
    key = tuple(sorted(columns))
    statement = _NOTES.get(key)
    if statement is None:
        values: dict[str, Any] = {c: sa.bindparam(f"v_{c}", type_=nodes.c[c].type) for c in key}
        values |= {"evidence": nodes.c.evidence + 1, "wake_at": sa.bindparam("v_wake_at", type_=sa.Float)}
        statement = _NOTES[key] = nodes.update().where(_BY_ID).values(values)
    bound = {"k_id": node_id, "v_wake_at": now, **{f"v_{k}": v for k, v in columns.items()}}
    return bool(conn.execute(statement, bound).rowcount == 1)


def see(conn: Connection, node_id: str, **columns: Any) -> None:
    """Write plain observations (power seen) that no pass needs to hear of."""
    prepared.update(conn, nodes, _BY_ID, {"id": node_id}, columns, "see")


def fence(conn: Connection, node_id: str) -> int | None:
    """The fence now, to check before touching the machine."""
    return conn.execute(_FENCE, {"ref": node_id}).scalar()


def mark(conn: Connection, node_id: str) -> tuple[int, int] | None:
    """(fence, evidence) now: unchanged means that what was read is still true."""
    row = conn.execute(_MARK, {"ref": node_id}).first()
    return (row[0], row[1]) if row else None


def delete(conn: Connection, node_id: str) -> None:
    """Forget the node; its ports, boots, orders and documents go with it, its events stay."""
    conn.execute(nodes.delete().where(nodes.c.id == node_id))


def page(conn: Connection, *, after: str = "", limit: int | None = 100, states: Iterable[str] = ()) -> list[Node]:
    """Nodes by name, after the name given (keyset: any page costs the same)."""
    query = sa.select(nodes).where(nodes.c.name > after).order_by(nodes.c.name)
    if states:
        query = query.where(nodes.c.state.in_(list(states)))
    if limit is not None:
        query = query.limit(limit)
    return [from_row(row) for row in conn.execute(query)]


def resting(conn: Connection) -> list[Node]:
    """Nodes of which nothing is wanted; those in flight are not even read."""
    query = sa.select(nodes).where(nodes.c.wanted.is_(None), nodes.c.power_wanted.is_(None))
    return [from_row(row) for row in conn.execute(query)]


def many(conn: Connection, ids: Sequence[str]) -> list[Node]:
    """These nodes, those that exist."""
    return [from_row(row) for row in conn.execute(sa.select(nodes).where(nodes.c.id.in_(list(ids))))]


def by_uuid(conn: Connection, uuid: str | None) -> list[Node]:
    """Nodes whose SMBIOS UUID this is."""
    if not uuid:
        return []
    return [from_row(row) for row in conn.execute(sa.select(nodes).where(nodes.c.system_uuid == uuid.lower()))]


def ids(conn: Connection) -> list[str]:
    """Every node's id."""
    return [row[0] for row in conn.execute(sa.select(nodes.c.id))]


def due(conn: Connection, horizon: float) -> list[tuple[str, float]]:
    """(id, wake_at) of nodes to be looked at until `horizon` (Unix seconds)."""
    query = sa.select(nodes.c.id, nodes.c.wake_at).where(nodes.c.wake_at <= horizon)
    return [(row[0], row[1]) for row in conn.execute(query)]


def in_flight(conn: Connection, state: str) -> int:
    """How many nodes work in this state now; failed ones do not count, not even when they were asked to begin again."""
    begins = sa.cast(nodes.c.work, sa.Text).like('%"ask":%')  # as text: a broken document of one row harms no other
    query = sa.select(sa.func.count()).where(nodes.c.state == state, nodes.c.wanted.is_not(None), ~begins)
    return int(conn.execute(query).scalar() or 0)


def count(conn: Connection) -> int:
    """How many nodes there are."""
    return int(conn.execute(sa.select(sa.func.count()).select_from(nodes)).scalar() or 0)


def working(conn: Connection) -> int:
    """How many nodes have a verb asked for or under way."""
    return int(conn.execute(sa.select(sa.func.count()).where(nodes.c.wanted.is_not(None))).scalar() or 0)


def waiting(conn: Connection) -> int:
    """How many nodes wait for something."""
    return int(conn.execute(sa.select(sa.func.count()).where(nodes.c.wait_until.is_not(None))).scalar() or 0)


def counts(conn: Connection) -> dict[str, int]:
    """How many nodes in each state."""
    query = sa.select(nodes.c.state, sa.func.count()).group_by(nodes.c.state)
    return {row[0]: row[1] for row in conn.execute(query)}


def faults(conn: Connection) -> int:
    """How many nodes have a fault."""
    return int(conn.execute(sa.select(sa.func.count()).where(nodes.c.fault.is_not(None))).scalar() or 0)


def shift_times(conn: Connection, delta_s: float) -> int:
    """The clock jumped: move every deadline with it, so that none passes (or never comes) for that reason."""
    moved = {name: nodes.c[name] + delta_s for name in ("wake_at", "wait_until", "wait_since")}
    return conn.execute(nodes.update().where(nodes.c.wake_at.is_not(None)).values(moved)).rowcount
