"""What agents report: orders that go on or have ended, configurations applied. Only what is believed is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from baremetal.model.event import Kind
from baremetal.model.node import State
from baremetal.protocol.agent import FAILED, PROGRESS, ConfigReport, Report
from baremetal.protocol.doc import BadDocument
from baremetal.protocol.plane import Message
from baremetal.store import boots, nodes, orders

if TYPE_CHECKING:
    from baremetal.workflows.facts import Facts

# What is kept of a fault that an agent reports, in characters.
FAULT_TEXTS = {"code": 80, "brief": 500, "detail": 4000, "fix": 500}
FAULT_EVIDENCE = 4096
MOST_S = 30 * 24 * 3600.0  # no configuration run takes longer


def report(facts: Facts, conn: Connection, m: Message) -> bool:
    """An order goes on, or has ended."""
    told = Report.from_json(m.body["report"])
    order = orders.get(conn, told.order_id)
    if order is None or order.node_id != m.node:
        raise BadDocument(f"report about order {told.order_id!r}, which this node does not have")
    facts.beats.ramdisk(order.boot_id, m.time)
    if told.outcome == PROGRESS:
        orders.progress(conn, order.id, _progress(told.data), m.time)
        return False
    fault = _fault(told.fault)
    if not orders.finish(conn, order.id, told.outcome, m.time, told.data, fault):
        return False
    spent = int((m.time - order.issued_at) * 1000)
    outcome = "failed" if told.outcome == FAILED else "ok"
    code = (fault or {}).get("code")
    facts.event(
        conn,
        m,
        Kind.STEP,
        f"agent.{order.kind}",
        source="agent",
        outcome=outcome,
        duration_ms=spent,
        fault_code=code,
    )
    return nodes.note(conn, order.node_id, facts.world.now())


def configuration(facts: Facts, conn: Connection, m: Message) -> bool:
    """A deployed system configured itself, or found that it drifted."""
    told = ConfigReport.from_json(m.body["report"])
    if m.node is None:
        raise BadDocument("a configuration report without a node")
    instance = boots.live(conn, m.node).get(boots.INSTANCE)
    stage = f"generation {told.metadata_generation}"
    bad = told.outcome == FAILED
    fault = _fault(told.fault)
    node = nodes.find(conn, m.node)
    if node is None:
        raise BadDocument("a configuration report of a node that was deleted meanwhile")
    scripts = [{k: s.get(k) for k in ("phase", "name", "exit", "seconds")} for s in told.scripts][:40]
    data = {"outcome": told.outcome, "files": len(told.files), "scripts": scripts}
    new = facts.event(
        conn,
        m,
        Kind.CONFIG,
        stage,
        source="agent",
        outcome="failed" if bad else "ok",
        duration_ms=int(max(0.0, min(told.seconds, MOST_S)) * 1000),
        fault_code=(fault or {}).get("code"),
        boot_id=instance.id if instance else None,
        data=data,
    )
    if not new:
        return False
    if instance:
        facts.beats.instance(m.node, m.time)
    same_boot = node.config.get("boot_id") == (instance.id if instance else None)
    if same_boot and float(node.config.get("at") or 0.0) > m.time:
        return False  # a server that was away kept it; the node said more since, to another one
    config = {
        "outcome": told.outcome,
        "generation": told.metadata_generation,
        "applied": node.config.get("applied") if bad else told.metadata_generation,
        "drift": [str(f.get("path", ""))[:300] for f in told.files][:20] if told.outcome == "drift" else [],
        "facts": {str(k)[:40]: v for k, v in list(told.facts.items())[:20] if isinstance(v, (str, int, float))},
        "at": m.time,
        "boot_id": instance.id if instance else None,
        "fault": fault,
        "scripts": [{**s, "tail": str(s.get("tail", ""))[-500:]} for s in told.scripts if s.get("exit")][:5],
        "seconds": told.seconds,
    }
    if node.state is State.ACTIVE and node.wanted is None:
        nodes.see(conn, m.node, config=config)  # nobody decides anything on it: a thousand passes are saved
        return False
    return nodes.note(conn, m.node, facts.world.now(), config=config)


def _fault(doc: dict[str, Any] | None) -> dict[str, Any] | None:
    """An agent's fault, as far as it is one: texts of a sane length, evidence that is a mapping."""
    if not doc:
        return None
    texts = {k: str(doc.get(k) or "").replace("\0", "")[:most] for k, most in FAULT_TEXTS.items()}
    evidence = doc.get("evidence")
    kept = evidence if isinstance(evidence, dict) and len(json.dumps(evidence)) <= FAULT_EVIDENCE else {}
    return {**texts, "evidence": kept}


def _progress(data: dict[str, Any]) -> dict[str, Any]:
    """How far an agent is: numbers that can be shown and divided, nothing else."""
    found: dict[str, Any] = {k: str(data[k])[:100] for k in ("stage", "unit") if isinstance(data.get(k), str)}
    for key in ("done", "total", "rate"):
        value = data.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63:
            found[key] = value if key == "rate" else int(value)
    return found
