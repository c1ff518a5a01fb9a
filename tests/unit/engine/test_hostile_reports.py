"""What a machine reports may be anything: it stops no other message, breaks no page, and is noted."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.protocol.plane import Message
from baremetal.store import events, orders
from baremetal.store.orders import OrderRow

APPLIED = {"metadata_generation": 1, "outcome": "applied"}
HOSTILE = [  # kind, its report: things that a database, int() or a dictionary refuses
    ("report", {"order_id": {"a": 1}, "outcome": "done"}),
    ("report", {"order_id": [1], "outcome": "progress"}),
    ("report", {"order_id": "o1", "outcome": "failed", "fault": {"code": {"a": 1}, "brief": [1], "evidence": 7}}),
    ("report", {"order_id": "o1", "outcome": "failed", "fault": "text"}),
    ("config-report", {**APPLIED, "seconds": float("inf")}),
    ("config-report", {**APPLIED, "seconds": 1e300}),
    ("config-report", {**APPLIED, "seconds": "long"}),
    ("config-report", {**APPLIED, "outcome": {"a": 1}}),
    ("config-report", {**APPLIED, "scripts": ["x"]}),
    ("config-report", {**APPLIED, "facts": ["x"]}),
    ("config-report", {**APPLIED, "outcome": "failed", "fault": {"code": {"a": 1}}}),
    ("config-report", {**APPLIED, "metadata_generation": "9"}),
    ("lease", {"mac": "52:54:00:00:00:01", "address": {"a": 1}, "expires": 1}),
    ("boot-seen", {"arch": ["x"], "loader": {}}),
]


@pytest.fixture
async def working(bench: Any) -> Any:
    """A node with an order under way."""
    node = await bench.to("n1", "active")
    row = OrderRow("o1", node.id, node.boot_id or "", "hold", {}, issued_at=time.time())
    await bench.con.write(lambda c: orders.insert(c, row))
    return bench


@pytest.mark.parametrize(("kind", "report"), HOSTILE)
async def test_the_message_behind_it_is_stored(working: Any, kind: str, report: dict[str, Any]) -> None:
    node, now = working.node("n1").id, time.time()
    body = {"report": report} if kind.endswith("report") else report
    batch = [
        Message("bad", kind, now, node, body),
        Message("good", "refused", now, node, {"what": "token", "why": "test"}),
    ]
    await working.con.inbox.messages(batch)
    told = working.store.read(lambda c: events.of_node(c, node))
    assert [e.id for e in told if e.id == "m-good"]


async def test_a_report_of_a_node_that_is_gone_is_dropped(bench: Any) -> None:
    await bench.con.inbox.messages([Message("late", "config-report", time.time(), "gone", {"report": APPLIED})])
    told = bench.store.read(lambda c: events.after(c, 0))
    assert [e.stage for _, e in told if e.id == "m-late"] == ["message-dropped"]


PROGRESS = [
    {"done": float("nan"), "total": 5},
    {"stage": "w", "done": "x", "total": [1], "unit": "bytes"},
    {"stage": {"a": 1}, "done": 10**400, "total": 10**401, "unit": "bytes", "rate": "fast"},
    {"done": -1, "total": True, "rate": float("inf")},
]


@pytest.mark.parametrize("data", PROGRESS)
async def test_progress_of_any_kind_breaks_no_page(working: Any, data: dict[str, Any]) -> None:
    report = {"order_id": "o1", "outcome": "progress", "data": data}
    await working.con.inbox.messages([Message("p", "report", time.time(), working.node("n1").id, {"report": report})])
    transport = httpx.ASGITransport(app=create_app(working.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        for path in ("/api/nodes", "/api/nodes/n1", "/api/nodes/n1/timeline", "/api/nodes/n1/explain"):
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
