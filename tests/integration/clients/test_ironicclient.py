"""python-ironicclient's command line, unmodified, through everything a node can live through."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.integration
JSON = ("-f", "json")
WAIT = ("--wait", "240")


@pytest.fixture
def node(ironic: Any, request: pytest.FixtureRequest) -> str:
    """An enrolled node named as the test, on the simulated driver."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40]
    words = ("--driver", "fake-hardware", "--name", name, "--resource-class", name, "--property", "cpus=8")
    made = ironic("node", "create", *words, *JSON)
    assert (made["provision_state"], made["driver"]) == ("enroll", "fake-hardware")
    return name


@pytest.fixture
def available(ironic: Any, node: str) -> str:
    """The same, ready to be deployed."""
    ironic("node", "manage", node, *WAIT)
    ironic("node", "provide", node, *WAIT)
    ironic("node", "set", node, "--instance-info", "image_source=web")
    return node


def state(ironic: Any, node: str) -> str:
    """provision_state"""
    return str(ironic("node", "show", node, *JSON)["provision_state"])


def test_create_list_show_set_unset_delete(ironic: Any, node: str) -> None:
    assert node in [row["name"] for row in ironic("node", "list", *JSON)]
    assert node in [row["name"] for row in ironic("node", "list", "--long", *JSON)]
    narrow = ironic("node", "list", "--fields", "uuid", "provision_state", "--provision-state", "enroll", *JSON)
    assert narrow
    assert all(set(row) == {"uuid", "provision_state"} for row in narrow)
    ironic(
        "node", "set", node, "--extra", "rack=r1", "--property", "memory_mb=1024", "--owner", "me", "--description", "d"
    )
    shown = ironic("node", "show", node, *JSON)
    assert (shown["extra"], shown["owner"], shown["description"]) == ({"rack": "r1"}, "me", "d")
    assert shown["properties"] == {"cpus": 8, "memory_mb": 1024}
    ironic("node", "unset", node, "--extra", "rack", "--owner")
    assert ironic("node", "show", node, "--fields", "extra", "owner", *JSON) == {"extra": {}, "owner": None}
    ironic("node", "delete", node)
    assert "could not be found" in ironic.fails("node", "show", node)


def test_manage_inspect_provide_clean(ironic: Any, node: str) -> None:
    ironic("node", "manage", node, *WAIT)
    ironic("node", "inspect", node, *WAIT)
    assert "inventory" in ironic("node", "inventory", "save", node)
    ironic("node", "clean", node, "--clean-steps", '[{"interface": "deploy", "step": "erase_devices_metadata"}]', *WAIT)
    assert state(ironic, node) == "manageable"
    ironic("node", "provide", node, *WAIT)
    assert state(ironic, node) == "available"


def test_deploy_rebuild_rescue_undeploy(ironic: Any, available: str) -> None:
    assert ironic("node", "validate", available, *JSON)
    ironic("node", "deploy", available, "--config-drive", '{"meta_data": {"hostname": "h"}}', *WAIT)
    shown = ironic("node", "show", available, *JSON)
    assert (shown["provision_state"], shown["power_state"], shown["last_error"]) == ("active", "power on", None)
    assert "HTTP 400" in ironic.fails("node", "provide", available)
    ironic("node", "rebuild", available, *WAIT)
    ironic("node", "rescue", available, "--rescue-password", "secret-secret", *WAIT)
    assert state(ironic, available) == "rescue"
    ironic("node", "unrescue", available, *WAIT)
    ironic("node", "undeploy", available, *WAIT)
    assert state(ironic, available) == "available"


def test_power_and_boot_device(ironic: Any, node: str) -> None:
    ironic("node", "manage", node, *WAIT)
    for verb in (("on",), ("off",), ("on",), ("off", "--soft")):
        ironic("node", "power", *verb, node)
        until_powered(ironic, node, "power on" if verb[0] == "on" else "power off")
    ironic("node", "boot", "device", "set", node, "pxe")
    assert ironic("node", "boot", "device", "show", node, *JSON)["boot_device"] == "pxe"
    assert "pxe" in str(ironic("node", "boot", "device", "show", node, "--supported", *JSON))
    ironic("node", "reboot", node)


def until_powered(ironic: Any, node: str, wanted: str) -> None:
    """The client has no wait for power."""
    for _ in range(900):
        time.sleep(0.1)
        shown = ironic("node", "show", node, "--fields", "power_state", "target_power_state", *JSON)
        if shown["power_state"] == wanted and shown["target_power_state"] is None:
            return
    pytest.fail(f"not {wanted}: {shown}")


def test_console_traits_history_maintenance(ironic: Any, node: str) -> None:
    assert ironic("node", "console", "show", node, *JSON)["console_enabled"] in (False, "False")
    ironic("node", "add", "trait", node, "CUSTOM_GPU", "HW_CPU_X86_VMX")
    assert [row["traits"] for row in ironic("node", "trait", "list", node, *JSON)] == ["CUSTOM_GPU", "HW_CPU_X86_VMX"]
    ironic("node", "remove", "trait", node, "CUSTOM_GPU")
    ironic("node", "manage", node, *WAIT)
    entries = ironic("node", "history", "list", node, "--long", *JSON)
    assert "manage" in str(entries)
    assert ironic("node", "history", "get", node, entries[0]["uuid"], *JSON)["uuid"] == entries[0]["uuid"]
    ironic("node", "maintenance", "set", node, "--reason", "fan")
    assert ironic("node", "show", node, *JSON)["maintenance_reason"] == "fan"
    ironic("node", "maintenance", "unset", node)
    assert ironic("node", "show", node, *JSON)["maintenance"] is False
    assert ironic("node", "vif", "list", node, *JSON) == []
    for words in (("bios", "setting", "list"), ("firmware", "list")):
        assert ironic("node", *words, node, *JSON) == []


def test_abort_is_obeyed_or_refused_clearly(ironic: Any, node: str) -> None:
    assert "abort" in ironic.fails("node", "abort", node)


def test_ports(ironic: Any, node: str) -> None:
    uuid = ironic("node", "show", node, *JSON)["uuid"]
    port = ironic("port", "create", "52:54:00:c1:1e:01", "--node", uuid, "--extra", "a=b", *JSON)
    assert (port["address"], port["node_uuid"]) == ("52:54:00:c1:1e:01", uuid)
    assert [row["address"] for row in ironic("port", "list", "--node", node, *JSON)] == ["52:54:00:c1:1e:01"]
    assert ironic("port", "list", "--address", "52:54:00:C1:1E:01", *JSON)
    ironic("port", "set", port["uuid"], "--pxe-disabled", "--physical-network", "prov")
    shown = ironic("port", "show", port["uuid"], *JSON)
    assert (shown["pxe_enabled"], shown["physical_network"], shown["extra"]) == (False, "prov", {"a": "b"})
    ironic("port", "unset", port["uuid"], "--extra", "a")
    assert "already exists" in ironic.fails("port", "create", "52:54:00:c1:1e:01", "--node", uuid)
    ironic("port", "delete", port["uuid"])
    assert ironic("port", "group", "list", *JSON) == []


def test_allocations(ironic: Any, available: str) -> None:
    made = ironic("allocation", "create", "--resource-class", available, "--name", "alloc-1", *WAIT, *JSON)
    assert (made["state"], made["name"]) == ("active", "alloc-1")
    assert ironic("allocation", "show", "alloc-1", *JSON)["node_uuid"] == made["node_uuid"]
    assert [row["name"] for row in ironic("allocation", "list", *JSON)] == ["alloc-1"]
    ironic("allocation", "set", "alloc-1", "--extra", "k=v")
    assert ironic("node", "show", available, *JSON)["instance_uuid"] == made["uuid"]
    ironic("allocation", "delete", "alloc-1")
    none = ironic("allocation", "create", "--resource-class", "nobody", "--name", "alloc-2", *JSON)
    assert "resource class is" in ironic("allocation", "show", none["uuid"], *JSON)["last_error"]
    ironic("allocation", "delete", "alloc-2")


def test_deploy_templates_and_runbooks(ironic: Any) -> None:
    steps = '[{"interface": "deploy", "step": "hold", "args": {}, "priority": 70}]'
    made = ironic("deploy", "template", "create", "CUSTOM_T", "--steps", steps, *JSON)
    assert [row["name"] for row in ironic("deploy", "template", "list", *JSON)] == ["CUSTOM_T"]
    ironic("deploy", "template", "set", "CUSTOM_T", "--name", "CUSTOM_U")
    assert ironic("deploy", "template", "show", made["uuid"], *JSON)["name"] == "CUSTOM_U"
    ironic("deploy", "template", "delete", "CUSTOM_U")
    book = '[{"interface": "deploy", "step": "erase_devices_metadata", "args": {}, "order": 1}]'
    ironic("runbook", "create", "--name", "CUSTOM_R", "--steps", book)
    assert ironic("runbook", "show", "CUSTOM_R", *JSON)["name"] == "CUSTOM_R"
    ironic("runbook", "delete", "CUSTOM_R")


def test_drivers_conductors_and_what_is_empty_here(ironic: Any) -> None:
    assert "fake-hardware" in [row["name"] for row in ironic("driver", "list", *JSON)]
    assert ironic("driver", "show", "ipmi", *JSON)["default_power_interface"] == "ipmitool"
    assert "ipmi_address" in str(ironic("driver", "property", "list", "ipmi", *JSON))
    assert [row["hostname"] for row in ironic("conductor", "list", *JSON)] == ["baremetal"]
    assert ironic("conductor", "show", "baremetal", *JSON)["alive"] is True
    for words in (("chassis",), ("volume", "connector"), ("volume", "target"), ("inspection", "rule")):
        assert ironic(*words, "list", *JSON) == []
    assert ironic("shard", "list", *JSON)
