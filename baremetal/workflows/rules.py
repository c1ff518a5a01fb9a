"""Inspection rules and SKUs as data: what an inventory makes of a node. Pure: documents in, changes out.

A rule: {"name", "priority", "when": [condition…], "then": [action…]}. Actions:
    {"set": "name" | "resource_class" | "arch" | "firmware" | "root_device" | "labels.X" | "properties.X", "to": value}
    {"add-trait": text}   {"remove-trait": text}   {"fail": text}
Text holds facts in braces: "{interfaces.0.lldp_processed.system_name}". Rules are
tried by falling priority, then by name; each sees what the ones before it set.

A SKU: {"name", "when": [condition…], "expect": {path: value} or [condition…]}:
the hardware a machine of that kind must have.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from baremetal.errors import UsageError
from baremetal.model import facts

PLAIN = ("name", "resource_class", "arch", "firmware", "root_device")
MAPS = ("labels", "properties")
_BRACES = re.compile(r"\{([^{}]+)\}")
MAX_VALUE = 4096


@dataclass(frozen=True)
class Outcome:
    """What the rules want: fields to set, traits, why inspection must fail, and which rule said what."""

    fields: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    add_traits: tuple[str, ...] = ()
    remove_traits: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    said: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For people and tests."""
        return dataclasses.asdict(self)


def check_rule(doc: Any) -> dict[str, Any]:
    """A rule as it may be stored; UsageError says what is wrong with it."""
    known = {"name", "priority", "when", "then", "description"}
    if not isinstance(doc, dict) or set(doc) - known or not isinstance(doc.get("name"), str):
        raise UsageError("a rule is {name, priority, when, then, description}", detail=f"given: {str(doc)[:300]}")
    if not isinstance(doc.get("priority", 0), int):
        raise UsageError("priority is a whole number")
    when, then = doc.get("when") or [], doc.get("then")
    if not isinstance(when, list) or not isinstance(then, list) or not then:
        raise UsageError(f"rule {doc['name']}: when is a list of conditions, then a list of actions (at least one)")
    for condition in when:
        facts.check_condition(condition)
    for action in then:
        _check_action(action)
    return {"priority": 0, "description": "", **doc, "when": when}


def _check_action(action: Any) -> None:
    if not isinstance(action, dict):
        raise UsageError(f"{action!r} is no action")
    match sorted(action):
        case ["set", "to"]:
            target = str(action["set"])
            head, _, rest = target.partition(".")
            if target not in PLAIN and not (head in MAPS and rest):
                raise UsageError(
                    f"a rule cannot set {target!r}", fix=f"one of {', '.join(PLAIN)}, labels.X, properties.X"
                )
            if target == "root_device" and not isinstance(action["to"], dict):
                raise UsageError("root_device is a mapping of hints")
        case ["add-trait"] | ["remove-trait"] | ["fail"]:
            if not all(isinstance(v, str) and v for v in action.values()):
                raise UsageError(f"{action!r}: a text is wanted")
        case _:
            raise UsageError(f"{action!r} is no action", fix="set … to …, add-trait, remove-trait or fail")


def apply(rules: list[dict[str, Any]], inventory: dict[str, Any], node: dict[str, Any]) -> Outcome:
    """Try every rule on the inventory; `node` stands beside it as `node.…`."""
    done = Outcome()
    for rule in sorted(rules, key=lambda r: (-int(r.get("priority", 0)), r["name"])):
        world = {**inventory, "node": _so_far(node, done)}
        if all(facts.holds(condition, world) for condition in rule.get("when") or []):
            for action in rule["then"]:
                done = _act(done, rule["name"], action, world)
    return done


def _so_far(node: dict[str, Any], done: Outcome) -> dict[str, Any]:
    traits = (set(node.get("traits") or ()) | set(done.add_traits)) - set(done.remove_traits)
    return {
        **node,
        **done.fields,
        "labels": {**(node.get("labels") or {}), **done.labels},
        "properties": {**(node.get("properties") or {}), **done.properties},
        "traits": sorted(traits),
    }


def _act(done: Outcome, rule: str, action: dict[str, Any], world: dict[str, Any]) -> Outcome:
    if "set" in action:
        target, value = str(action["set"]), filled(action["to"], world)
        said = (*done.said, {"rule": rule, "set": target, "to": value})
        head, _, key = target.partition(".")
        if head == "labels" and key:
            return dataclasses.replace(done, labels={**done.labels, key: str(value)}, said=said)
        if head == "properties" and key:
            return dataclasses.replace(done, properties={**done.properties, key: value}, said=said)
        return dataclasses.replace(done, fields={**done.fields, target: value}, said=said)
    verb, text = next(iter(action.items()))
    value = str(filled(text, world))
    said = (*done.said, {"rule": rule, verb: value})
    if verb == "add-trait":
        kept = tuple(t for t in done.remove_traits if t != value)
        return dataclasses.replace(done, add_traits=(*done.add_traits, value), remove_traits=kept, said=said)
    if verb == "remove-trait":
        kept = tuple(t for t in done.add_traits if t != value)
        return dataclasses.replace(done, remove_traits=(*done.remove_traits, value), add_traits=kept, said=said)
    return dataclasses.replace(done, failures=(*done.failures, f"{value} (rule {rule})"), said=said)


def filled(value: Any, world: dict[str, Any]) -> Any:
    """The value with {path} replaced by what is there; a text that is one path alone keeps the fact's type."""
    if isinstance(value, dict):
        return {k: filled(v, world) for k, v in value.items()}
    if not isinstance(value, str):
        return value
    whole = _BRACES.fullmatch(value)
    if whole:
        return _one(world, whole.group(1))
    return _BRACES.sub(lambda hit: str(_one(world, hit.group(1)) or ""), value)[:MAX_VALUE]


def _one(world: dict[str, Any], path: str) -> Any:
    """The first fact at the path that says anything."""
    return next((v for v in facts.find(world, path) if v not in (None, "", [], {})), None)


# -- SKUs ---------------------------------------------------------------------


def check_sku(doc: Any) -> dict[str, Any]:
    """A SKU as it may be stored; UsageError says what is wrong with it."""
    known = {"name", "when", "expect", "description"}
    if not isinstance(doc, dict) or set(doc) - known or not isinstance(doc.get("name"), str):
        raise UsageError("a SKU is {name, when, expect, description}", detail=f"given: {str(doc)[:300]}")
    for condition in doc.get("when") or []:
        facts.check_condition(condition)
    if not expectations(doc):
        raise UsageError(f"SKU {doc['name']} expects nothing", fix='expect = {"cpu.count" = 64, …}')
    return {"description": "", "when": [], **doc}


def expectations(sku: dict[str, Any]) -> list[dict[str, Any]]:
    """Its conditions."""
    expect = sku.get("expect") or {}
    if isinstance(expect, dict):
        return [facts.expected(path, value) for path, value in expect.items()]
    if isinstance(expect, list):
        return [facts.check_condition(c) for c in expect]
    raise UsageError("expect is a mapping of paths to values, or a list of conditions")


def sku_of(skus: list[dict[str, Any]], inventory: dict[str, Any], node: dict[str, Any]) -> dict[str, Any] | None:
    """The SKU this machine must be: the one its property `sku` names, else the first whose `when` holds."""
    named = (node.get("properties") or {}).get("sku")
    if named:
        found = next((s for s in skus if s["name"] == named), None)
        if found is None:
            raise UsageError(
                f"the node should be of SKU {named!r}, which nobody has described",
                fix="baremetal inspection sku add FILE, or baremetal node set NODE --property sku=",
            )
        return found
    world = {**inventory, "node": node}
    return next((s for s in skus if s.get("when") and all(facts.holds(c, world) for c in s["when"])), None)


def differences(sku: dict[str, Any], inventory: dict[str, Any]) -> list[dict[str, Any]]:
    """What is not as the SKU says: [{"field", "expected", "found"}]."""
    wrong = []
    for condition in expectations(sku):
        if not facts.holds(condition, inventory):
            found = facts.find(inventory, condition["field"])
            wanted = f"{'not ' if condition.get('not') else ''}{condition.get('op', 'eq')} {condition.get('value', '')}"
            wrong.append({"field": condition["field"], "expected": wanted.strip(), "found": _shown(found)})
    return wrong


SIGNS = {"eq": "", "ne": "not ", "ge": ">= ", "le": "<= ", "gt": "> ", "lt": "< ", "contains": "~ "}


def told(difference: dict[str, Any]) -> str:
    """One difference for a person, its condition as one writes it: `>= 64`, not `ge 64`."""
    word, space, value = str(difference["expected"]).partition(" ")
    wanted = f"{SIGNS[word]}{value}" if space and word in SIGNS else difference["expected"]
    found = difference["found"]
    return f"{difference['field']}: expected {wanted}, found {'nothing' if found is None else found}"


def _shown(found: list[Any]) -> Any:
    if not found:
        return None
    return found[0] if len(found) == 1 else found[:20]
