"""Nodes and events as the native API shows them. No secret gets here: none is in a node row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from baremetal import lifecycle
from baremetal.model.event import Event
from baremetal.model.node import Node, Port
from baremetal.store.orders import OrderRow

_PLAIN = (
    "id",
    "name",
    "wanted",
    "wanted_by",
    "wanted_since",
    "step",
    "fence",
    "held",
    "boot_id",
    "bmc_url",
    "power_wanted",
    "power_seen_at",
    "arch",
    "system_uuid",
    "serial",
    "resource_class",
    "labels",
    "properties",
    "root_device",
    "image_id",
    "maintenance",
    "protected",
    "retired",
    "created_at",
    "updated_at",
    "state_since",
)
_MASKED = ("metadata", "config_drive", "password_hash")


def node_json(
    node: Node,
    *,
    ports: Sequence[Port] | None = None,
    order: OrderRow | None = None,
    image_name: str | None = None,
    generation: int | None = None,
) -> dict[str, Any]:
    """One node."""
    doc: dict[str, Any] = {name: getattr(node, name) for name in _PLAIN}
    doc |= {
        "state": str(node.state),
        "ironic_state": lifecycle.provision_state(node),
        "phase": str(lifecycle.phase(node)),
        "power": str(node.power),
        "firmware": str(node.firmware),
        "traits": list(node.traits),
        "wanted_args": {k: "******" if k in _MASKED and v else v for k, v in node.wanted_args.items()},
        "wait": dataclasses.asdict(node.wait) if node.wait else None,
        "fault": node.fault.to_json() if node.fault else None,
        "doing": node.work.get("doing") if node.wanted else None,
        "image": image_name,
        "config": _config(node, generation),
        "progress": order.progress if order and order.outcome is None else None,
        "allowed": sorted(str(verb) for verb in lifecycle.allowed(node)),
    }
    if ports is not None:
        doc["ports"] = [port_json(port) for port in ports]
    return doc


def port_json(port: Port) -> dict[str, Any]:
    """One NIC."""
    return {k: getattr(port, k) for k in ("mac", "address", "pxe_enabled", "physical_network", "name")}


def event_json(event: Event, names: Mapping[str, str], seq: int | None = None) -> dict[str, Any]:
    """One event, with the node's name for people."""
    doc = dataclasses.asdict(event)
    doc["kind"] = str(event.kind)
    doc["node"] = names.get(event.node_id or "")
    if seq is not None:
        doc["seq"] = seq
    return doc


def proof_json(event: Event) -> list[dict[str, Any]]:
    """The proofs of an event, one a disk. The node's name as it was then: it may be gone now."""
    same = {"time": event.time, "node": event.data.get("node"), "node_id": event.node_id, "boot_id": event.boot_id}
    plain = ("name", "serial", "wwn", "size", "method", "bytes_verified", "discarded", "seconds")
    return [{**same, **{k: disk.get(k) for k in plain}} for disk in event.data.get("disks") or []]


def _config(node: Node, generation: int | None) -> dict[str, Any]:
    known = {k: node.config.get(k) for k in ("outcome", "generation", "applied", "at", "fault", "seconds")}
    failed = [f"{s.get('phase')}.d/{s.get('name')}" for s in node.config.get("scripts") or []]
    more = {"scripts_failed": failed, "drift": node.config.get("drift") or [], "facts": node.config.get("facts") or {}}
    return {**known, **more, "wanted_generation": generation}
