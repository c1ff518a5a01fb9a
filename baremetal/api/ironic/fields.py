"""A node in Ironic's words, at the microversion asked for."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime
from typing import Any

from baremetal import lifecycle
from baremetal.api.ironic import drivers
from baremetal.api.ironic.common import HOST, links, parties
from baremetal.lifecycle import Phase
from baremetal.model.fault import Fault
from baremetal.model.node import Node, Port, Power, State

# Fields that appear with a microversion (1.x); all others are always there.
SINCE = {
    "driver_internal_info": 3,
    "name": 5,
    "inspection_finished_at": 6,
    "inspection_started_at": 6,
    "clean_step": 7,
    "raid_config": 12,
    "target_raid_config": 12,
    "states": 14,
    "network_interface": 20,
    "portgroups": 24,
    "volume": 32,
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
# The interfaces of a node that says none itself; "" is the driver's own ("ipmitool", "redfish", …).
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
FAKE = {name: "noop" if name in ("network_interface", "storage_interface") else "fake" for name in INTERFACES}
EMPTY: dict[str, Any] = {
    "instance_info": {},
    "extra": {},
    "network_data": {},
    "raid_config": {},
    "target_raid_config": {},
    "conductor_group": "",
    "console_enabled": False,
    "disable_power_off": False,
}
SHORT = ("instance_uuid", "maintenance", "power_state", "provision_state", "uuid", "name")


@functools.cache
def names(minor: int) -> tuple[str, ...]:
    """Every field of a node at this microversion."""
    sample = _whole(Node("0", "0"), "")
    return tuple(name for name in sample if SINCE.get(name, 1) <= minor)


def node_doc(node: Node, base: str, minor: int, *, bare: bool = False) -> dict[str, Any]:
    """Every field of this microversion; secrets of the instance are masked unless `bare` (to be patched and kept)."""
    doc = _whole(node, base)
    if not bare:
        doc["instance_info"] = shown_instance(doc["instance_info"])
    return {name: doc[name] for name in names(minor)}


def interfaces_of(driver: str) -> dict[str, str]:
    """The interfaces a driver gives a node."""
    if driver == "fake-hardware":
        return FAKE
    plane = drivers.DRIVERS.get(driver, ("", ""))[0]
    return {name: default or plane for name, default in INTERFACES.items()}


def _whole(node: Node, base: str) -> dict[str, Any]:
    node = begun(node)
    kept = node.extra.get("ironic", {})
    driver, info = drivers.info_of(node.bmc_url)
    driver = kept.get("driver", driver)
    defaults = interfaces_of(driver)
    doc: dict[str, Any] = {key: kept.get(key, EMPTY.get(key)) for key in KEPT}
    for key, value in doc.items():
        if value is None:
            doc[key] = EMPTY.get(key) if key in EMPTY else defaults.get(key)
    step = {"interface": node.step.split(".")[0], "step": node.step.split(".")[1]} if node.step and node.wanted else {}
    fault = node.fault if node.wanted is None else None
    target = lifecycle.target_state(node)
    owner, lessee = parties(node)
    doc |= {
        "uuid": node.id,
        "name": None if node.name == node.id else node.name,
        "owner": owner,
        "lessee": lessee,
        "driver": driver,
        "driver_info": drivers.masked(kept["driver_info"]) if "driver_info" in kept else info,
        "driver_internal_info": _internal(kept),
        "properties": {k: v for k, v in node.properties.items() if k != "bmc"},
        "provision_state": lifecycle.provision_state(node),
        "target_provision_state": str(target) if target else None,
        "power_state": {Power.ON: "power on", Power.OFF: "power off"}.get(node.power),
        "target_power_state": _target_power(node),
        "last_error": _error(fault) if fault else None,
        "fault": fault.code if fault and node.state in lifecycle.STABLE else None,
        "maintenance": bool(node.maintenance),
        "maintenance_reason": node.maintenance,
        "reservation": HOST if node.wanted and lifecycle.phase(node) is Phase.WORKING else None,
        "resource_class": node.resource_class,
        "traits": list(node.traits),
        "protected": node.protected,
        "retired": node.retired,
        "conductor": HOST,
        "allocation_uuid": kept.get("allocation_uuid"),
        "clean_step": step if node.state is State.CLEANING else {},
        "deploy_step": step if node.state is State.DEPLOYING else {},
        "service_step": step if node.state is State.SERVICING else {},
        "boot_mode": None if str(node.firmware) == "unknown" else str(node.firmware),
        "secure_boot": None,
        "health": None,
        "created_at": when(node.created_at),
        "updated_at": when(node.updated_at) if node.fence else None,
        "provision_updated_at": when(node.state_since) if node.state_since != node.created_at else None,
        "inspection_started_at": None,
        "inspection_finished_at": None,
    }
    for name in ("ports", "portgroups", "states", "volume"):
        doc[name] = links(base, f"nodes/{node.id}/{name}")
    doc["links"] = links(base, f"nodes/{node.id}")
    return doc


def shown_instance(info: Any) -> Any:
    """Who may look at a node may not read what its config drive tells the instance."""
    if not isinstance(info, dict):
        return info
    return {k: drivers.MASK if k == "configdrive" and v else v for k, v in drivers.masked(info).items()}


def _internal(kept: dict[str, Any]) -> dict[str, Any]:
    """What an agent of Ironic's told us, its token masked."""
    agent = kept.get("agent") or {}
    told = {key: agent[key] for key in ("agent_url", "agent_version", "agent_last_heartbeat") if agent.get(key)}
    return told | ({"agent_secret_token": drivers.MASK} if agent.get("token_sha256") else {})


def begun(node: Node) -> Node:
    """The node with an accepted verb as Ironic shows it: in the verb's state at once, before its first pass."""
    to = node.work.get("to") if "ask" in node.work else None
    if to is None or State(to) in lifecycle.STABLE:
        return node
    return dataclasses.replace(node, state=State(to), fault=None, wait=None, held=None, step=None)


PORT_SINCE = {
    "internal_info": 18,
    "local_link_connection": 19,
    "pxe_enabled": 19,
    "portgroup_uuid": 26,
    "physical_network": 34,
    "is_smartnic": 53,
    "name": 88,
    "description": 97,
    "vendor": 100,
    "category": 101,
}
# What clients may write of a port beside our own columns.
PORT_KEPT: dict[str, Any] = {
    "extra": {},
    "local_link_connection": {},
    "internal_info": {},
    "is_smartnic": False,
    "description": None,
    "vendor": None,
    "category": None,
}


def port_doc(port: Port, base: str, minor: int = 110) -> dict[str, Any]:
    """A port; its UUID is made of its MAC."""
    uuid = port_uuid(port.mac)
    doc = {
        "uuid": uuid,
        "address": port.mac,
        "node_uuid": port.node_id,
        "pxe_enabled": port.pxe_enabled,
        "physical_network": port.physical_network,
        "name": port.name,
        **{key: port.extra.get(key, default) for key, default in PORT_KEPT.items()},
        "portgroup_uuid": None,
        "created_at": when(port.extra.get("created_at") or 0.0),
        "updated_at": when(port.extra.get("updated_at") or 0.0),
        "links": links(base, f"ports/{uuid}"),
    }
    return {name: value for name, value in doc.items() if PORT_SINCE.get(name, 1) <= minor}


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


def _error(fault: Fault) -> str:
    return " ".join(part for part in (f"{fault.brief}.", fault.detail, fault.fix and f"Fix: {fault.fix}") if part)


def _target_power(node: Node) -> str | None:
    known = {"on": "power on", "off": "power off", "soft-off": "soft power off", "reboot": "rebooting"}
    return known.get(node.power_wanted or "")


def keep(node: Node, **values: Any) -> Node:
    """The node with these Ironic-only values."""
    kept = {**node.extra.get("ironic", {}), **values}
    return dataclasses.replace(node, extra={**node.extra, "ironic": kept})
