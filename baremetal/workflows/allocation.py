"""Choosing a node by class, traits, labels and candidates; and why each other one was not chosen."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.errors import UsageError
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, Power, State
from baremetal.store import allocations, events, nodes
from baremetal.workflows import ids

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")


@dataclass(frozen=True)
class Asked:
    """What is wanted. `candidates`: only these (names or ids), in this order; empty = any."""

    resource_class: str
    traits: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    candidates: tuple[str, ...] = ()


def why_not(node: Node, asked: Asked, holders: Mapping[str, str]) -> str | None:
    """The first rule that excludes this node, in words; None when it fits."""
    if asked.candidates and not {node.name, node.id} & set(asked.candidates):
        return "is not among the candidates"
    if node.resource_class != asked.resource_class:
        return f"resource class is {node.resource_class!r}, not {asked.resource_class!r}"
    missing = [trait for trait in asked.traits if trait not in node.traits]
    if missing:
        return f"lacks trait {', '.join(missing)}"
    other = [f"{k}={v}" for k, v in asked.labels.items() if node.labels.get(k) != v]
    if other:
        return f"has not label {', '.join(other)}"
    if node.state is not State.AVAILABLE:
        return f"is {lifecycle.provision_state(node)!r}, not 'available'"
    if node.wanted:
        return f"{node.wanted} was asked for by {node.wanted_by}"
    if node.maintenance:
        return f"is in maintenance: {node.maintenance}"
    if node.retired:
        return "is retired"
    if node.id in holders:
        return f"is held by allocation {holders[node.id]}"
    if node.power is Power.UNKNOWN and not node.bmc_url.startswith("manual:"):
        return "its power state is unknown: its BMC was not heard"
    return None


def choose(found: Iterable[Node], asked: Asked, holders: Mapping[str, str]) -> tuple[Node | None, list[dict[str, str]]]:
    """(the node, why not each other one). Candidates' order counts, else the one that rested longest."""
    excluded: list[dict[str, str]] = []
    fit: list[Node] = []
    for node in found:
        rule = why_not(node, asked, holders)
        if rule is None:
            fit.append(node)
        else:
            excluded.append({"node": node.name, "rule": rule})
    order = list(asked.candidates)

    def rank(node: Node) -> tuple[int, float]:
        places = [order.index(ref) for ref in (node.name, node.id) if ref in order]
        return (min(places, default=0), node.state_since)

    return (min(fit, key=rank) if fit else None), excluded


def allocate(conn: Connection, body: dict[str, Any], by: str, now: float) -> dict[str, Any]:
    """Choose and hold a node, or say why none; state active or error."""
    asked = _parse(body)
    node, excluded = choose(nodes.page(conn, limit=None), asked, allocations.holders(conn))
    row = {
        "id": str(uuid.uuid4()),
        "name": body.get("name"),
        "state": "active" if node else "error",
        "node_id": node.id if node else None,
        "asked": {
            "resource_class": asked.resource_class,
            "traits": list(asked.traits),
            "labels": asked.labels,
            "candidates": list(asked.candidates),
        },
        "excluded": excluded[:200] if node is None else [],
        "created_at": now,
        "updated_at": now,
    }
    allocations.insert(conn, row)
    if node:
        told = {"allocation": row["name"] or row["id"]}
        events.add_all(conn, [Event(ids.ulid(now), now, node.id, Kind.VERB, "allocate", by, data=told)])
    return {**row, "node": node.name if node else None}


def _parse(body: dict[str, Any]) -> Asked:
    unknown = set(body) - {"name", "resource_class", "traits", "labels", "candidates"}
    if unknown:
        raise UsageError(f"an allocation does not know {', '.join(sorted(unknown))}")
    if not isinstance(body.get("resource_class"), str):
        raise UsageError("an allocation needs a resource_class", fix='{"resource_class": "baremetal"}')
    name = body.get("name")
    if name is not None and not (isinstance(name, str) and _NAME.match(name)):
        raise UsageError(
            f"{str(name)[:80]!r} is not a name for an allocation", fix="letters, digits, '.', '-' and '_', at most 253"
        )
    lists = {key: body.get(key) or [] for key in ("traits", "candidates")}
    labels = body.get("labels") or {}
    texts = [v for value in lists.values() if isinstance(value, list) for v in value]
    if not all(isinstance(v, list) for v in lists.values()) or not all(isinstance(t, str) for t in texts):
        raise UsageError("traits and candidates are lists of texts")
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise UsageError("labels is a mapping of texts")
    return Asked(body["resource_class"], tuple(lists["traits"]), labels, tuple(lists["candidates"]))
