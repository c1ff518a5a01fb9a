"""What the stored rules and SKUs make of a node's inventory, fresh or stored: the node changed, and why."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from baremetal.errors import BaremetalError, NotFound, Refused, UsageError
from baremetal.model.fault import Fault
from baremetal.model.node import Node
from baremetal.store import inventories, nodes, records
from baremetal.workflows import ids, registry, rules
from baremetal.workflows.metadata import refresh
from baremetal.workflows.passes import World

RULE, SKU = "inspection-rule", "sku"
CHECKS = {RULE: rules.check_rule, SKU: rules.check_sku}
# Fields of a node that rules may change.
FIELDS = ("name", "resource_class", "arch", "firmware", "root_device", "labels", "properties", "traits")


@dataclass(frozen=True)
class Verdict:
    """What was said, why inspection must fail, how the hardware differs from its SKU."""

    said: tuple[dict[str, Any], ...] = ()
    failures: tuple[str, ...] = ()
    sku: str | None = None
    differences: tuple[dict[str, Any], ...] = ()

    def fault(self, name: str, now: float) -> Fault | None:
        """None when all is well."""
        if self.failures:
            return Fault(
                "inspection-rule",
                f"{name}: {self.failures[0]}",
                detail="\n".join(self.failures),
                fix="correct the machine or the rule (baremetal inspection rule list), "
                f"then: baremetal node inspect {name}",
                since=now,
            )
        if self.differences:
            lines = [rules.told(d) for d in self.differences]
            return Fault(
                "hardware-differs",
                f"{name} is not as SKU {self.sku} says: {lines[0]}"
                + (f" and {len(lines) - 1} more" if len(lines) > 1 else ""),
                detail="\n".join(lines),
                fix="correct the machine or the SKU (baremetal inspection sku list), "
                f"then: baremetal node inspect {name}",
                since=now,
                evidence={"sku": self.sku, "differences": list(self.differences)[:20]},
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """For people and tests."""
        return dataclasses.asdict(self)


def judge(conn: Connection, node: Node, inventory: dict[str, Any]) -> tuple[Node, Verdict]:
    """The node as the stored rules want it, and the verdict. Writes nothing.

    A stored rule that could not be stored today (its pattern might hold up the
    server) is not tried, and inspection fails with its name: it may be the one
    that keeps bad machines out.
    """
    made, unusable = _usable(conn, RULE)
    skus, more = _usable(conn, SKU)
    after, verdict = judged(conn, node, inventory, made, skus)
    return after, dataclasses.replace(verdict, failures=(*unusable, *more, *verdict.failures))


def unusable(conn: Connection) -> list[str]:
    """What is wrong with stored rules and SKUs; older versions took some that this one refuses."""
    return _usable(conn, RULE)[1] + _usable(conn, SKU)[1]


def _usable(conn: Connection, kind: str) -> tuple[list[dict[str, Any]], list[str]]:
    good, wrong = [], []
    noun = {RULE: "rule", SKU: "sku"}[kind]
    for record in records.of_kind(conn, kind):
        try:
            good.append(CHECKS[kind](record.doc))
        except BaremetalError as exc:
            way_out = (
                f"store it corrected (baremetal inspection {noun} add FILE), or: baremetal inspection {noun} delete"
            )
            wrong.append(f"stored {noun} {record.name} cannot be used: {exc.brief}; {way_out} {record.name}")
    return good, wrong


def judged(
    conn: Connection, node: Node, inventory: dict[str, Any], made: list[dict[str, Any]], skus: list[dict[str, Any]]
) -> tuple[Node, Verdict]:
    """The same with these rules and SKUs, stored or not."""
    outcome = rules.apply(made, inventory, _facts(node))
    after, failures = _changed(conn, node, outcome)
    sku = rules.sku_of(skus, inventory, _facts(after))
    wrong = rules.differences(sku, inventory) if sku else []
    return after, Verdict(outcome.said, (*outcome.failures, *failures), sku["name"] if sku else None, tuple(wrong))


def _facts(node: Node) -> dict[str, Any]:
    return {name: getattr(node, name) for name in (*FIELDS, "serial", "system_uuid", "bmc_url")}


def _changed(conn: Connection, node: Node, outcome: rules.Outcome) -> tuple[Node, list[str]]:
    """The node with what the rules set, by the rules that hold for operators; what was refused."""
    body: dict[str, Any] = {k: v for k, v in outcome.fields.items() if v not in (None, "")}
    body["labels"] = {**node.labels, **outcome.labels}
    body["properties"] = {**node.properties, **outcome.properties}
    body["traits"] = sorted((set(node.traits) | set(outcome.add_traits)) - set(outcome.remove_traits))
    if body["traits"] == sorted(node.traits):
        del body["traits"]
    failures = []
    if body.get("name") and body["name"] != node.name and nodes.find(conn, str(body["name"])):
        failures.append(f"a rule wants the name {body['name']!r}, which another node has")
        del body["name"]
    try:
        return registry.with_fields(node, body), failures
    except BaremetalError as exc:
        return node, [*failures, f"a rule sets what a node cannot have: {exc.brief}"]


# -- stored documents ---------------------------------------------------------------


def put(conn: Connection, kind: str, doc: Any, now: float) -> dict[str, Any]:
    """Store a rule or SKU, or replace the one of this name."""
    checked = CHECKS[kind](doc)
    name = registry.checked_name(checked["name"])
    known = records.find(conn, kind, name)
    if known:
        records.change(conn, known.id, name, checked, now)
    else:
        records.add(conn, records.Record(ids.node_id(), kind, name, checked, now, now))
    return checked


def remove(conn: Connection, kind: str, name: str) -> None:
    """Forget it."""
    known = records.find(conn, kind, name)
    if known is None:
        raise NotFound(f"no {kind} {name!r}", fix=f"baremetal inspection {'rule' if kind == RULE else 'sku'} list")
    records.delete(conn, known.id)


def listing(conn: Connection, kind: str) -> list[dict[str, Any]]:
    """All of a kind, rules in the order they are tried."""
    docs = [record.doc for record in records.of_kind(conn, kind)]
    return _in_order(docs)


def _in_order(docs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Higher priorities first, then by name."""
    return sorted(docs, key=lambda d: (-int(d.get("priority", 0)), d["name"]))


def again(
    conn: Connection, world: World, ref: str, now: float, *, dry_run: bool = False, extra: Any = None
) -> dict[str, Any]:
    """Try rules and SKUs on the stored inventory; `extra`: unstored ones too (instead of their namesakes)."""
    node = nodes.get(conn, ref)
    stored = inventories.get(conn, node.id)
    if stored is None:
        raise NotFound(f"{node.name} was not inspected yet", fix=f"baremetal node inspect {node.name}")
    if node.wanted is not None and not dry_run:
        raise Refused(f"{node.name}: {node.wanted} is under way", fix="wait for it")
    made, skus = listing(conn, RULE), listing(conn, SKU)
    for one in extra if isinstance(extra, list) else [extra] if extra is not None else []:
        made, skus = _with(one, made, skus)
    made = _in_order(made)
    after, verdict = judged(conn, node, stored[1], made, skus)
    changes = {f: getattr(after, f) for f in FIELDS if getattr(after, f) != getattr(node, f)}
    if not dry_run and changes:
        refresh(conn, world.metadata, world.signer, nodes.save(conn, node, after, now), now)
    fault = verdict.fault(after.name, now)
    return {
        "node": node.name,
        "id": node.id,
        "inspected_at": stored[0],
        "changes": {k: list(v) if isinstance(v, tuple) else v for k, v in changes.items()},
        "fault": fault.to_json() if fault else None,
        **verdict.to_json(),
    }


def _with(
    extra: Any, made: list[dict[str, Any]], skus: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if isinstance(extra, dict) and "expect" in extra:
        sku = rules.check_sku(extra)
        return made, [sku, *(s for s in skus if s["name"] != sku["name"])]
    if isinstance(extra, dict) and "then" in extra:
        rule = rules.check_rule(extra)
        return [rule, *(r for r in made if r["name"] != rule["name"])], skus
    raise UsageError("neither a rule (when, then) nor a SKU (expect)")
