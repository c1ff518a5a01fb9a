"""Paths, conditions, rules and SKUs: what they find, what they want, what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from baremetal.errors import UsageError
from baremetal.model import facts
from baremetal.workflows import rules

INVENTORY: dict[str, Any] = {
    "cpu": {"count": 64, "model_name": "Xeon Gold 6230", "flags": ["avx2", "vmx"]},
    "memory": {"physical_mb": 393216},
    "disks": [
        {"name": "/dev/sda", "serial": "S1", "size": 480 * 10**9, "rotational": False, "health": {"wear_percent": 3}},
        {"name": "/dev/sdb", "serial": "S2", "size": 480 * 10**9, "rotational": False, "health": {"wear_percent": 91}},
        {"name": "/dev/sdc", "serial": "S3", "size": 8 * 10**12, "rotational": True, "health": None},
    ],
    "interfaces": [
        {"name": "eth0", "speed_mbps": 25000, "lldp_processed": {"system_name": "sw-r1", "port_id": "Et7"}},
        {"name": "eth1", "speed_mbps": None, "lldp_processed": {}},
    ],
    "system_vendor": {"product_name": "R640", "serial_number": "ABC123", "manufacturer": "Dell Inc."},
    "bmc_address": "10.20.3.7",
    "tpm": None,
}

PATHS = [
    ("cpu.count", [64]),
    ("disks.0.serial", ["S1"]),
    ("disks.9.serial", []),
    ("disks.*.serial", ["S1", "S2", "S3"]),
    ("disks.#", [3]),
    ("disks[rotational=false].#", [2]),
    ("disks[rotational=true].*.size", [8 * 10**12]),
    ("disks[rotational=false][serial=s2].*.name", ["/dev/sdb"]),
    ("interfaces.*.lldp_processed.system_name", ["sw-r1"]),
    ("interfaces[name=eth0].0.speed_mbps", [25000]),
    ("nothing.here", []),
    ("cpu.count.deeper", []),
]


@pytest.mark.parametrize(("path", "found"), PATHS)
def test_path(path: str, found: list[Any]) -> None:
    assert facts.find(INVENTORY, path) == found


@pytest.mark.parametrize("path", ["", ".", "a..b", "a[b]", "a[=x]", "a]b", 7, "x" * 201])
def test_no_path(path: Any) -> None:
    with pytest.raises(UsageError):
        facts.check_path(path)


CONDITIONS = [  # field, op, value, more, holds
    ("cpu.count", "eq", 64, {}, True),
    ("cpu.count", "eq", "64", {}, True),
    ("cpu.count", "ge", 65, {}, False),
    ("cpu.count", "lt", "sixty", {}, False),
    ("memory.physical_mb", "ge", 393216, {}, True),
    ("system_vendor.product_name", "matches", "r6[45]0", {}, True),
    ("system_vendor.manufacturer", "matches", "dell", {}, False),
    ("system_vendor.manufacturer", "contains", "dell", {}, True),
    ("bmc_address", "in-net", "10.20.0.0/16", {}, True),
    ("bmc_address", "in-net", "fd00::/8", {}, False),
    ("system_vendor.product_name", "one-of", ["R640", "R740"], {}, True),
    ("disks.*.size", "ge", 10**12, {}, True),
    ("disks.*.size", "ge", 10**12, {"every": True}, False),
    ("disks.*.health.wear_percent", "gt", 90, {}, True),
    ("disks.*.rotational", "eq", True, {}, True),
    ("tpm", "is-none", None, {}, True),
    ("tpm", "is-none", None, {"not": True}, False),
    ("absent.field", "is-empty", None, {}, True),
    ("absent.field", "eq", "x", {"not": True}, True),
    ("cpu.flags.*", "eq", "vmx", {}, True),
]


@pytest.mark.parametrize(("field", "op", "value", "more", "true"), CONDITIONS)
def test_condition(field: str, op: str, value: Any, more: dict[str, Any], true: bool) -> None:
    condition = facts.check_condition({"field": field, "op": op, "value": value, **more})
    assert facts.holds(condition, INVENTORY) is true


BAD = [
    {"field": "a", "op": "is", "value": 1},
    {"field": "a", "op": "ge"},
    {"field": "a", "op": "matches", "value": "("},
    {"field": "a", "value": 1, "also": 2},
    "a = 1",
]


@pytest.mark.parametrize("doc", BAD)
def test_no_condition(doc: Any) -> None:
    with pytest.raises(UsageError):
        facts.check_condition(doc)


def rule(name: str, then: list[dict[str, Any]], *when: dict[str, Any], priority: int = 0) -> dict[str, Any]:
    return rules.check_rule({"name": name, "priority": priority, "when": list(when), "then": then})


def test_a_rule_sets_name_class_location_and_root_device() -> None:
    made = [
        rule(
            "r640",
            [
                {"set": "resource_class", "to": "compute"},
                {"set": "name", "to": "r640-{system_vendor.serial_number}"},
                {"set": "labels.switch", "to": "{interfaces.*.lldp_processed.system_name}"},
                {"set": "labels.port", "to": "{interfaces.*.lldp_processed.port_id}"},
                {"set": "properties.cpus", "to": "{cpu.count}"},
                {"set": "root_device", "to": {"serial": "{disks[rotational=false].0.serial}"}},
                {"add-trait": "CUSTOM_NVME"},
            ],
            {"field": "system_vendor.product_name", "op": "eq", "value": "R640"},
        )
    ]
    done = rules.apply(made, INVENTORY, {"traits": []})
    assert done.fields == {"resource_class": "compute", "name": "r640-ABC123", "root_device": {"serial": "S1"}}
    assert done.labels == {"switch": "sw-r1", "port": "Et7"}
    assert done.properties == {"cpus": 64}, "a fact alone keeps its type"
    assert done.add_traits == ("CUSTOM_NVME",)


def test_rules_go_by_priority_and_see_what_was_set_before() -> None:
    second = rule("b", [{"add-trait": "BIG"}], {"field": "node.resource_class", "op": "eq", "value": "huge"})
    first = rule("a", [{"set": "resource_class", "to": "huge"}], priority=10)
    assert rules.apply([second, first], INVENTORY, {"resource_class": "x"}).add_traits == ("BIG",)
    assert rules.apply([second], INVENTORY, {"resource_class": "x"}).add_traits == ()


def test_a_rule_can_fail_the_inspection_with_facts() -> None:
    worn = rule(
        "worn",
        [{"fail": "a disk of {system_vendor.serial_number} is worn out"}],
        {"field": "disks.*.health.wear_percent", "op": "gt", "value": 90},
    )
    assert rules.apply([worn], INVENTORY, {}).failures == ("a disk of ABC123 is worn out (rule worn)",)


BAD_RULES: list[dict[str, Any]] = [
    {"name": "x", "then": []},
    {"name": "x", "then": [{"set": "state", "to": "active"}]},
    {"name": "x", "then": [{"set": "bmc_url", "to": "ipmi://evil"}]},
    {"name": "x", "then": [{"set": "root_device", "to": "sda"}]},
    {"name": "x", "then": [{"run": "rm"}]},
    {"name": "x", "then": [{"fail": ""}]},
    {"then": [{"fail": "x"}]},
]


@pytest.mark.parametrize("doc", BAD_RULES)
def test_no_rule(doc: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        rules.check_rule(doc)


def test_a_sku_names_every_difference() -> None:
    expect = {
        "cpu.count": 64,
        "memory.physical_mb": ">= 786432",
        "disks[rotational=false].#": 4,
        "system_vendor.product_name": ["R640", "R650"],
        "cpu.model_name": "~ Gold",
        "tpm.version": "2",
    }
    sku = rules.check_sku({"name": "r640", "expect": expect})
    assert rules.differences(sku, INVENTORY) == [
        {"field": "memory.physical_mb", "expected": "ge 786432", "found": 393216},
        {"field": "disks[rotational=false].#", "expected": "eq 4", "found": 2},
        {"field": "tpm.version", "expected": "eq 2", "found": None},
    ]


def test_which_sku_a_machine_must_be() -> None:
    when = [{"field": "system_vendor.product_name", "op": "eq", "value": "R640"}]
    skus = [
        rules.check_sku({"name": "other", "expect": {"cpu.count": 1}}),
        rules.check_sku({"name": "r640", "when": when, "expect": {"cpu.count": 64}}),
    ]
    assert rules.sku_of(skus, INVENTORY, {})["name"] == "r640"  # type: ignore[index]
    assert rules.sku_of(skus, INVENTORY, {"properties": {"sku": "other"}})["name"] == "other"  # type: ignore[index]
    assert rules.sku_of(skus[:1], INVENTORY, {}) is None
    with pytest.raises(UsageError, match="nobody has described"):
        rules.sku_of(skus, INVENTORY, {"properties": {"sku": "gone"}})
