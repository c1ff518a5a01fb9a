"""The metadata of nodes: layers written, checked, taken back. Documents are made in compose.py.

A generation is a change of content, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

from baremetal.errors import NotFound, UsageError
from baremetal.model.layers import merge
from baremetal.model.metadata import refers_to_nodes
from baremetal.model.node import Node
from baremetal.store import metadata, nodes, rollouts, schemas
from baremetal.store.metadata import LAYERS, StoredDocument
from baremetal.store.seal import Sealer
from baremetal.workflows.compose import ROLE_LABEL, Composer, Signer
from baremetal.workflows.schemacheck import Checker

__all__ = ["ROLE_LABEL", "Signer", "layers_of", "refresh", "refresh_referring", "set_layer"]


@dataclass(frozen=True)
class Change:
    """What somebody wants a layer to be. `mode`: merge (JSON merge patch) or replace."""

    layer: str
    name: str
    values: dict[str, Any]
    mode: str = "merge"
    by: str = ""
    why: str = ""


@dataclass(frozen=True)
class Changed:
    """What came of it: the layer's values, nodes whose document is another now, and their new generations."""

    values: dict[str, Any]
    nodes: list[tuple[Node, int]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [node.id for node, _ in self.nodes]


def layers_of(conn: Connection, sealer: Sealer, node: Node) -> dict[str, dict[str, Any]]:
    """What each layer says for this node."""
    return Composer(conn, sealer, None, 0.0).layers_of(node)


def refresh(conn: Connection, sealer: Sealer, signer: Signer, node: Node, now: float) -> StoredDocument | None:
    """The node's document as its layers say now; a new generation only if the content changed.

    Layers that do not compose (a secret this node has not) leave it what it had, with an event.
    """
    Composer(conn, sealer, signer, now).refresh([node], lenient=True)
    return metadata.get_document(conn, sealer, node.id)


def refresh_referring(conn: Connection, sealer: Sealer, signer: Signer, now: float) -> list[str]:
    """Another node's name, labels or address changed: documents that speak of nodes follow. Ids of those that did."""
    shared = metadata.shared_layers(conn, sealer)
    if not any(refers_to_nodes(values) for values in shared):
        own = metadata.all_layers(conn, sealer, "node")
        concerned = nodes.many(conn, [node for node, values in own.items() if refers_to_nodes(values)])
    else:
        concerned = nodes.page(conn, limit=None)
    changed = Composer(conn, sealer, signer, now).refresh(concerned, lenient=True) if concerned else []
    return [node.id for node, _ in changed]


def check_layer(layer: str, name: str) -> None:
    """defaults and site have no name, role and node need one."""
    if layer not in LAYERS:
        raise NotFound(f"there is no metadata layer {layer!r}", fix=f"layers: {', '.join(LAYERS)}")
    if (layer in ("role", "node")) != bool(name):
        raise UsageError(f"layer {layer} {'needs a' if layer in ('role', 'node') else 'has no'} name")


def key_of(conn: Connection, layer: str, name: str) -> str:
    """The name a layer is stored under: a node's is its id."""
    check_layer(layer, name)
    return nodes.get(conn, name).id if layer == "node" else name


def set_layer(conn: Connection, sealer: Sealer, signer: Signer, change: Change, now: float) -> Changed:
    """Write a layer and make the documents follow; UsageError when a schema forbids what would come of it.

    merge: as JSON merge patch, null takes a key out of this layer. replace: a
    null that is stored hides the key of the layers below.
    """
    key = key_of(conn, change.layer, change.name)
    if active := rollouts.active_on(conn, change.layer, key):
        raise UsageError(
            f"roll-out {active.id} of this layer is {active.state}",
            detail=active.because,
            fix="baremetal metadata rollout resume, or abort; then set it",
        )
    write_layer(conn, sealer, change, key, now)
    composer = Composer(conn, sealer, signer, now)
    concerned = touched(conn, change.layer, key)
    check(conn, composer, concerned, change.layer, key)
    values = metadata.get_layer(conn, sealer, change.layer, key)[0]
    return Changed(values, composer.refresh(concerned))


def write_layer(conn: Connection, sealer: Sealer, change: Change, key: str, now: float) -> bool:
    """Only the layer; was it another before?"""
    if change.mode not in ("merge", "replace"):
        raise UsageError(f"mode {change.mode!r}", fix="merge or replace")
    old, written = metadata.get_layer(conn, sealer, change.layer, key)
    new = merge([old, change.values]) if change.mode == "merge" else change.values
    if written and new == old:
        return False
    metadata.put_layer(conn, sealer, change.layer, key, new, now, change.by, change.why)
    return True


def check(conn: Connection, composer: Composer, concerned: Sequence[Node], layer: str, key: str) -> None:
    """No node may get what its schemas forbid; a role without nodes is checked as far as it goes."""
    checker = Checker(schemas.all_of(conn))
    if not checker:
        return
    for node in concerned:
        if schema_names := checker.concerning(node.labels.get(ROLE_LABEL)):
            checker.check(composer.values(node), schema_names, node.name)
    if not concerned and layer in ("defaults", "site", "role"):
        names = checker.concerning(key if layer == "role" else None)
        checker.check(composer.shared_values(key if layer == "role" else None), names, f"layer {layer}", partly=True)


def set_schema(conn: Connection, sealer: Sealer, layer: str, name: str, schema: Any, now: float) -> None:
    """Keep a JSON schema for every node (site) or the nodes of a role; refused when a node breaks it already."""
    if layer not in ("site", "role") or (layer == "role") != bool(name):
        raise UsageError("a schema is for --site or for --role NAME")
    if schema is None:
        schemas.forget(conn, layer, name)
        return
    Checker.read(schema)
    schemas.put(conn, layer, name, schema, now)
    check(conn, Composer(conn, sealer, None, now), touched(conn, layer, name), layer, name)


def rollback(
    conn: Connection, sealer: Sealer, signer: Signer, layer: str, name: str, to: int | None, by: str, now: float
) -> Changed:
    """The layer as it was after change `to`, or before its last change. It becomes a new change."""
    key = key_of(conn, layer, name)
    past = metadata.history(conn, sealer, [(layer, key)], limit=2)
    if to is None:
        if not past:
            raise UsageError("this layer was never changed: there is nothing to go back to")
        values, why = (past[1].values, f"back to change {past[1].id}") if past[1:] else ({}, "back to nothing")
    else:
        found = metadata.get_change(conn, sealer, to)
        if found is None or (found.layer, found.name) != (layer, key):
            raise NotFound(f"this layer has no change {to}", fix="baremetal metadata history")
        values, why = found.values, f"back to change {to}"
    return set_layer(conn, sealer, signer, Change(layer, name, values, "replace", by, why), now)


def touched(conn: Connection, layer: str, key: str) -> list[Node]:
    """Nodes this layer is for."""
    if layer == "node":
        return [nodes.get(conn, key)]
    found = nodes.page(conn, limit=None)
    return [n for n in found if layer != "role" or n.labels.get(ROLE_LABEL) == key]
