"""A node in Ironic's words, at the microversion asked for."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from baremetal import lifecycle
from baremetal.api.ironic import drivers
from baremetal.lifecycle import Phase
from baremetal.model.node import Node, Port, Power, State

# Fields that appear with a microversion (1.x); all others are always there.
SINCE = {
    "name": 5,
    "inspection_finished_at": 6,
    "inspection_started_at": 6,
    "clean_step": 7,
    "raid_config": 12,
    "target_raid_config": 12,
    "network_interface": 20,
    "resource_class": 21,
    "bios_interface": 40,
    "boot_interface": 31,
    "console_interface": 31,
    "deploy_interface": 31,
    "inspect_interface": 31,
    "management_interface": 31,
    "power_interface": 31,
    "raid_interface": 31,
    "vendor_interface": 31,
    "storage_interface": 33,
    "traits": 37,
    "rescue_interface": 38,
    "deploy_step": 44,
    "fault": 42,
    "conductor_group": 46,
    "automated_clean": 47,
    "protected": 48,
    "protected_reason": 48,
    "conductor": 49,
    "owner": 50,
    "description": 51,
    "allocation_uuid": 52,
    "retired": 61,
    "retired_reason": 61,
    "lessee": 65,
    "network_data": 66,
    "boot_mode": 75,
    "secure_boot": 75,
    "shard": 82,
    "parent_node": 83,
    "firmware_interface": 86,
    "service_step": 87,
    "disable_power_off": 95,
    "instance_name": 104,
    "health": 109,
}
# What clients may write that has no place in our model: kept in extra["ironic"].
KEPT = (
    "driver",
    "driver_info",
    "instance_info",
    "instance_uuid",
    "instance_name",
    "extra",
    "owner",
    "lessee",
    "description",
    "conductor_group",
    "chassis_uuid",
    "automated_clean",
    "protected_reason",
    "retired_reason",
    "network_data",
    "shard",
    "parent_node",
    "console_enabled",
    "raid_config",
    "target_raid_config",
    "disable_power_off",
    *(
        f"{name}_interface"
        for name in (
            "bios",
            "boot",
            "console",
            "deploy",
            "firmware",
            "inspect",
            "management",
            "network",
            "power",
            "raid",
            "rescue",
            "storage",
            "vendor",
        )
    ),
)
INTERFACES = {
    "bios_interface": "no-bios",
    "boot_interface": "ipxe",
    "console_interface": "no-console",
    "deploy_interface": "direct",
    "firmware_interface": "no-firmware",
    "inspect_interface": "agent",
    "management_interface": "",
    "network_interface": "noop",
    "power_interface": "",
    "raid_interface": "no-raid",
    "rescue_interface": "agent",
    "storage_interface": "noop",
    "vendor_interface": "no-vendor",
}
EMPTY: dict[str, Any] = {
    "instance_info": {},
    "extra": {},
    "network_data": {},
    "raid_config": {},
    "target_raid_config": {},
    "conductor_group": "",
    "console_enabled": False,
}
SHORT = ("instance_uuid", "maintenance", "power_state", "provision_state", "uuid", "name")


def node_doc(node: Node, base: str, minor: int) -> dict[str, Any]:
    """Every field of this microversion."""
    node = begun(node)
    kept = node.extra.get("ironic", {})
    driver, info = drivers.info_of(node.bmc_url)
    driver = kept.get("driver", driver)
    plane = drivers.DRIVERS.get(driver, ("", ""))
    doc: dict[str, Any] = {key: kept.get(key, EMPTY.get(key, INTERFACES.get(key))) for key in KEPT}
    for name in ("power_interface", "management_interface"):
        doc[name] = kept.get(name) or plane[0]
    step = {"interface": node.step.split(".")[0], "step": node.step.split(".")[1]} if node.step and node.wanted else {}
    fault = node.fault
    failed = fault is not None and (node.wanted is None)
    doc |= {
        "uuid": node.id,
        "name": None if node.name == node.id else node.name,
        "driver": driver,
        "driver_info": drivers.masked(kept["driver_info"]) if "driver_info" in kept else info,
        "driver_internal_info": {},
        "properties": {k: v for k, v in node.properties.items() if k != "bmc"},
        "provision_state": lifecycle.provision_state(node),
        "target_provision_state": str(lifecycle.target_state(node)) if lifecycle.target_state(node) else None,
        "power_state": {Power.ON: "power on", Power.OFF: "power off"}.get(node.power),
        "target_power_state": _target_power(node),
        "last_error": _error(node) if failed and fault else None,
        "fault": fault.code if failed and fault and node.state in lifecycle.STABLE else None,
        "maintenance": bool(node.maintenance),
        "maintenance_reason": node.maintenance,
        "reservation": "baremetal" if node.wanted and lifecycle.phase(node) is Phase.WORKING else None,
        "resource_class": node.resource_class,
        "traits": list(node.traits),
        "protected": node.protected,
        "retired": node.retired,
        "conductor": "baremetal",
        "allocation_uuid": kept.get("allocation_uuid"),
        "clean_step": step if node.state is State.CLEANING else {},
        "deploy_step": step if node.state is State.DEPLOYING else {},
        "service_step": step if node.state is State.SERVICING else {},
        "boot_mode": None if str(node.firmware) == "unknown" else str(node.firmware),
        "secure_boot": None,
        "health": None,
        "created_at": when(node.created_at),
        "updated_at": when(node.updated_at),
        "provision_updated_at": when(node.state_since),
        "inspection_started_at": None,
        "inspection_finished_at": None,
    }
    for name in ("ports", "portgroups", "states", "volume"):
        doc[name] = _links(base, f"nodes/{node.id}/{name}")
    doc["links"] = _links(base, f"nodes/{node.id}")
    return {k: v for k, v in doc.items() if SINCE.get(k, 1) <= minor}


def begun(node: Node) -> Node:
    """The node with an accepted verb as Ironic shows it: in the verb's state at once, before its first pass."""
    to = node.work.get("to") if "ask" in node.work else None
    if to is None or State(to) in lifecycle.STABLE:
        return node
    return dataclasses.replace(node, state=State(to), fault=None, wait=None, held=None, step=None)


def chosen(doc: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    """Only these fields, and links."""
    if names is None:
        return {k: doc[k] for k in (*SHORT, "links") if k in doc}
    return {k: doc[k] for k in (*names, "links") if k in doc}


def port_doc(port: Port, base: str, created: float) -> dict[str, Any]:
    """A port; its UUID is made of its MAC."""
    uuid = port_uuid(port.mac)
    return {
        "uuid": uuid,
        "address": port.mac,
        "node_uuid": port.node_id,
        "pxe_enabled": port.pxe_enabled,
        "physical_network": port.physical_network,
        "name": port.name,
        "local_link_connection": {},
        "portgroup_uuid": None,
        "is_smartnic": False,
        "extra": {},
        "internal_info": {},
        "created_at": when(created),
        "updated_at": None,
        "links": _links(base, f"ports/{uuid}"),
    }


def port_uuid(mac: str) -> str:
    """A version 8 UUID that holds the MAC, so that it can be read back."""
    digits = mac.replace(":", "")
    return f"00000000-0000-8000-8000-{digits}"


def mac_of(ident: str) -> str | None:
    """The MAC of such a UUID, or of a MAC."""
    if len(ident) == 17 and ident.count(":") == 5:
        return ident.lower()
    if len(ident) == 36 and ident.startswith("00000000-0000-8000-8000-"):
        digits = ident[-12:].lower()
        return ":".join(digits[i : i + 2] for i in range(0, 12, 2))
    return None


def when(at: float) -> str | None:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at else None


def _error(node: Node) -> str:
    fault = node.fault
    assert fault is not None
    return " ".join(part for part in (f"{fault.brief}.", fault.detail, fault.fix and f"Fix: {fault.fix}") if part)


def _target_power(node: Node) -> str | None:
    known = {"on": "power on", "off": "power off", "soft-off": "soft power off", "reboot": "rebooting"}
    return known.get(node.power_wanted or "")


def _links(base: str, path: str) -> list[dict[str, str]]:
    return [{"href": f"{base}/v1/{path}", "rel": "self"}, {"href": f"{base}/{path}", "rel": "bookmark"}]


def keep(node: Node, **values: Any) -> Node:
    """The node with these Ironic-only values."""
    kept = {**node.extra.get("ironic", {}), **values}
    return dataclasses.replace(node, extra={**node.extra, "ironic": kept})
