"""Roll-outs: a change of a layer on its way to the nodes, group by group."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.secrets import Secret
from baremetal.store.seal import Sealer
from baremetal.store.tables import metadata_rollouts as rollouts

RUNNING, STOPPED, DONE, ABORTED = "running", "stopped", "done", "aborted"


@dataclass(frozen=True)
class Rollout:
    """`before`: the layer's values before, which nodes without the change keep.

    `nodes`: ids in the order they get it; `given`: id -> [generation, when], those that have it.
    `patience_s`: how long a node may take to report.
    """

    id: int
    layer: str
    name: str
    state: str
    before: dict[str, Any]
    canary: int
    batch: int
    patience_s: float
    nodes: list[str]
    given: dict[str, list[float]] = field(default_factory=dict)
    because: str = ""
    by: str = ""
    started_at: float = 0.0
    updated_at: float = 0.0

    def concerns(self, node_id: str, role: str | None) -> bool:
        """Is this node one of those the layer is for?"""
        if self.layer == "role":
            return role == self.name
        return self.layer != "node" or self.name == node_id


def start(conn: Connection, sealer: Sealer, new: Rollout) -> int:
    """Store it; its number."""
    values = {name: getattr(new, name) for name in _COLUMNS}
    values["sealed"] = sealer.seal(Secret(json.dumps(new.before)), f"{new.layer}/{new.name}", "before")
    key = conn.execute(rollouts.insert().values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def change(conn: Connection, rollout_id: int, **columns: Any) -> None:
    """Write these columns."""
    conn.execute(rollouts.update().where(rollouts.c.id == rollout_id).values(columns))


def active(conn: Connection, sealer: Sealer) -> list[Rollout]:
    """Running or stopped: those by which some nodes are told the old values."""
    return [_from_row(sealer, row) for row in conn.execute(_ACTIVE)]


def active_on(conn: Connection, layer: str, name: str) -> Rollout | None:
    """The one under way on this layer, its old values not opened."""
    row = conn.execute(_ACTIVE.where((rollouts.c.layer == layer) & (rollouts.c.name == name))).first()
    return _from_row(None, row) if row else None


def get(conn: Connection, sealer: Sealer, rollout_id: int | None) -> Rollout | None:
    """By number, else the last one."""
    query = sa.select(rollouts).order_by(rollouts.c.id.desc()).limit(1)
    row = conn.execute(query if rollout_id is None else query.where(rollouts.c.id == rollout_id)).first()
    return _from_row(sealer, row) if row else None


_COLUMNS = (
    "layer",
    "name",
    "state",
    "canary",
    "batch",
    "patience_s",
    "nodes",
    "given",
    "because",
    "by",
    "started_at",
    "updated_at",
)
_ACTIVE = sa.select(rollouts).where(rollouts.c.state.in_([RUNNING, STOPPED])).order_by(rollouts.c.id)


def _from_row(sealer: Sealer | None, row: Any) -> Rollout:
    sealed = sealer.open(row.sealed, f"{row.layer}/{row.name}", "before").reveal() if sealer else "{}"
    return Rollout(row.id, before=json.loads(sealed), **{name: row._mapping[name] for name in _COLUMNS})
