"""The filters of GET /v1/nodes: a test over a node's facts, made of the query."""

from __future__ import annotations

from collections.abc import Callable

from baremetal.api.ironic.common import Asked
from baremetal.api.ironic.shelf import Test
from baremetal.api.ironic.version import Refusal
from baremetal.model.node import State

EQUAL = (
    "driver",
    "instance_uuid",
    "resource_class",
    "fault",
    "owner",
    "lessee",
    "conductor_group",
    "chassis_uuid",
    "parent_node",
    "instance_name",
)
FLAGS = ("maintenance", "retired")
PAGING = ("limit", "marker", "sort_key", "sort_dir", "detail")
OTHERS = ("associated", "provision_state", "description_contains", "shard", "sharded", "conductor", "include_children")
NAMES = (*EQUAL, *FLAGS, *OTHERS, "project", "health")


def test_of(asked: Asked) -> Test | None:
    """What a node must be to be listed; None when anything goes."""
    tests = [made for name, value in asked.query.items() if (made := _one(asked, name, value)) is not None]
    project = asked.project
    if project is not None:
        tests.append(lambda facts: project in (facts["owner"], facts["lessee"]))
    if not tests:
        return None
    return lambda facts: all(test(facts) for test in tests)


def _one(asked: Asked, name: str, value: str) -> Test | None:
    if name in EQUAL:
        return lambda facts: facts[name] == value
    if name in FLAGS:
        flag = asked.flag(name)
        return lambda facts: facts[name] is flag
    maker = _MADE.get(name)
    return maker(asked, value) if maker else None


def _associated(asked: Asked, value: str) -> Test:
    flag = asked.flag("associated")
    return lambda facts: bool(facts["instance_uuid"]) is flag


def _sharded(asked: Asked, value: str) -> Test:
    flag = asked.flag("sharded")
    return lambda facts: bool(facts["shard"]) is flag


def _state(asked: Asked, value: str) -> Test:
    if value not in _states():
        raise Refusal(400, f'Provision state "{value[:40]}" is not valid')
    return lambda facts: facts["provision_state"] == value


def _states() -> frozenset[str]:
    waits = ("wait", "hold", "failed")
    words = {str(state) for state in State}
    words |= {f"{stem} {wait}" for stem in ("inspect", "clean", "deploy", "rescue", "service") for wait in waits}
    return frozenset(words | {"wait call-back", "adopt failed", "unrescue failed", "verify failed"})


_MADE: dict[str, Callable[[Asked, str], Test]] = {
    "associated": _associated,
    "sharded": _sharded,
    "provision_state": _state,
    "project": lambda asked, value: lambda facts: value in (facts["owner"], facts["lessee"]),
    "description_contains": lambda asked, value: lambda facts: value.lower() in str(facts["description"] or "").lower(),
    "shard": lambda asked, value: lambda facts: facts["shard"] in value.split(","),
    "conductor": lambda asked, value: lambda facts: value == "baremetal",
}
