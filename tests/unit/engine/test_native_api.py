"""The native API over a live conductor: what the CLI sees."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


async def test_enroll_to_active_over_http(bench: Any, api: httpx.AsyncClient) -> None:
    bench.rack.add("n1")
    made = await api.post("/api/nodes", json=bench.rack.body("n1", labels={"role": "web"}))
    assert made.status_code == 201
    assert "pw" not in made.text, "no password ever comes back"
    await bench.until("n1", "manageable")
    assert (await api.put("/api/nodes/n1/verbs/provide", json={})).status_code == 202
    await bench.until("n1", "available")
    asked = await api.put("/api/nodes/n1/verbs/deploy", json={"image": "web", "metadata": {"greeting": "hi"}})
    assert (asked.status_code, asked.json()["wanted"]) == (202, "deploy")
    await bench.until("n1", "active")
    doc = (await api.get("/api/nodes/n1")).json()
    assert (doc["state"], doc["ironic_state"], doc["phase"], doc["image"]) == ("active", "active", "stable", "web")
    assert "undeploy" in doc["allowed"]
    assert (await api.get("/api/nodes/n1/metadata")).json()["document"]["values"] == {"greeting": "hi"}
    lines = (await api.get("/api/nodes/n1/timeline")).json()["stages"]
    assert {"deploying", "deploy.write_image", "deploy.first_boot"} <= {line["stage"] for line in lines}
    told = (await api.get("/api/nodes/n1/explain")).json()
    assert told["where"] == "active"
    assert told["why"]
    assert (await api.get("/api/nodes/n1/inventory")).json()["inventory"]["cpu"]["count"] == 4
    history = (await api.get("/api/nodes/n1/history")).json()["events"]
    assert [e["stage"] for e in history if e["kind"] == "verb"] == ["enroll", "provide", "deploy"]


REFUSALS = [  # method, path, body, status, code
    ("GET", "/api/nodes/nobody", None, 404, "not-found"),
    ("POST", "/api/nodes", {"bmc_url": "fake://x"}, 400, "usage"),
    ("POST", "/api/nodes", {"name": "bad name"}, 400, "usage"),
    ("POST", "/api/nodes", {"name": "n2", "macs": ["zz"]}, 400, "usage"),
    ("POST", "/api/nodes", {"name": "n2", "nmae": 1}, 400, "usage"),
    ("POST", "/api/nodes", {"name": "n1"}, 409, "refused"),
    ("POST", "/api/nodes", {"name": "n2", "bmc_url": "ipmi://a:secret@10.0.0.1"}, 400, "usage"),
    ("PUT", "/api/nodes/n1/verbs/deploy", {"image": "web"}, 409, "refused"),
    ("PUT", "/api/nodes/n1/verbs/dance", {}, 400, "usage"),
    ("PUT", "/api/nodes/n1/verbs/provide", {"speed": 1}, 400, "usage"),
    ("PUT", "/api/nodes/n1/power", {"target": "sideways"}, 400, "usage"),
    ("PATCH", "/api/nodes/n1", {"protected": "yes"}, 400, "usage"),
    ("PUT", "/api/metadata/role", {"values": {}}, 400, "usage"),
    ("PUT", "/api/metadata/galaxy/x", {"values": {}}, 404, "not-found"),
    ("GET", "/api/nodes?where=colour=red", None, 400, "usage"),
    ("POST", "/api/bulk", {"verb": "deploy"}, 400, "usage"),
    ("GET", "/api/nothing", None, 404, "not-found"),
]


async def test_refusals_say_what_to_do(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    for method, path, body, status, code in REFUSALS:
        answer = await api.request(method, path, json=body)
        told = answer.json()["error"]
        assert (answer.status_code, told["code"]) == (status, code), (path, told)
        assert told["brief"]
        assert "secret" not in answer.text
    told = (await api.put("/api/nodes/n1/verbs/deploy", json={"image": "web"})).json()["error"]
    assert "provide" in told["detail"], "a refusal names what is allowed instead"


async def test_garbage_is_a_clear_4xx(api: httpx.AsyncClient) -> None:
    for raw in (b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000):
        answer = await api.post("/api/nodes", content=raw)
        assert answer.status_code == 400, raw[:20]
        assert answer.json()["error"]["code"] == "usage"
    big = await api.post("/api/nodes", content=b"{}", headers={"content-length": "99999999999"})
    assert big.status_code == 413


async def test_two_operators_at_once(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    bench.rack.boxes["n1"].faults.add("no-hello")
    await api.put("/api/nodes/n1/verbs/inspect", headers={"x-baremetal-user": "alice"})
    await bench.when("n1", lambda n: n.wait is not None)
    answer = await api.put("/api/nodes/n1/verbs/provide", headers={"x-baremetal-user": "bob"})
    assert answer.status_code == 409
    assert re.search(r"alice.*\d+ s ago", answer.json()["error"]["brief"]), answer.json()


async def test_two_operators_at_one_power_button(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    bench.rack.boxes["n1"].bmc.faults.add("ignores-power")
    await api.put("/api/nodes/n1/power", json={"target": "on"}, headers={"x-baremetal-user": "alice"})
    by_bob = {"x-baremetal-user": "bob"}
    for path, body in (("power", {"target": "off"}), ("verbs/provide", {})):
        answer = await api.put(f"/api/nodes/n1/{path}", json=body, headers=by_bob)
        assert answer.status_code == 409
        assert re.search(r"asked by alice \d+ s ago", answer.json()["error"]["brief"]), answer.json()


async def test_lost_updates_are_refused(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1", manage=False)
    fence = (await api.get("/api/nodes/n1")).json()["fence"]
    first = await api.patch("/api/nodes/n1", json={"labels": {"a": "1"}}, headers={"if-match": f'"{fence}"'})
    second = await api.patch("/api/nodes/n1", json={"labels": {"a": "2"}}, headers={"if-match": f'"{fence}"'})
    assert (first.status_code, second.status_code) == (200, 412)


async def test_bulk_gives_a_verdict_each_and_a_dry_run_touches_nothing(bench: Any, api: httpx.AsyncClient) -> None:
    for name in ("r1-u01", "r1-u02"):
        await bench.enroll(name)
        await bench.until(name, "manageable")
    await bench.enroll("r1-u03", manage=False)
    ask = {"verb": "provide", "nodes": ["r1-u[01-04]"], "dry_run": True}
    doc = (await api.post("/api/bulk", json=ask)).json()
    assert [r["verdict"] for r in doc["results"]] == ["would-accept", "would-accept", "refused", "refused"]
    assert any("ERASES" in line for line in doc["results"][0]["consequences"])
    assert bench.node("r1-u01").wanted is None
    doc = (await api.post("/api/bulk", json={"verb": "provide", "where": "state=manageable"})).json()
    assert (doc["accepted"], doc["refused"]) == (2, 0)
    await bench.until("r1-u01", "available")
    await bench.until("r1-u02", "available")


async def test_listing_pages_and_filters(bench: Any, api: httpx.AsyncClient) -> None:
    for i in range(7):
        await bench.enroll(f"n{i}", manage=False, labels={"odd": str(i % 2)})
    names: list[str] = []
    after = ""
    while after is not None:
        page = (await api.get("/api/nodes", params={"limit": 3, "after": after})).json()
        names += [n["name"] for n in page["nodes"]]
        after = page["next"]
    assert names == [f"n{i}" for i in range(7)]
    odd = (await api.get("/api/nodes", params={"where": "label.odd=1 and not name=n3", "limit": 2})).json()
    assert ([n["name"] for n in odd["nodes"]], odd["next"]) == (["n1", "n5"], None)


async def test_a_held_get_returns_when_the_node_changes(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1", manage=False)
    fence = (await api.get("/api/nodes/n1")).json()["fence"]
    held = asyncio.create_task(api.get("/api/nodes/n1", params={"wait": 20, "fence": fence}))
    await asyncio.sleep(0.05)
    assert not held.done()
    await api.patch("/api/nodes/n1", json={"resource_class": "compute"})
    assert (await held).json()["resource_class"] == "compute"


async def test_metadata_generations_grow_with_content_only(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1", manage=False, labels={"role": "web"})
    first = (await api.get("/api/nodes/n1/metadata")).json()["generation"]
    await api.put("/api/metadata/defaults", json={"values": {"ntp": {"servers": ["a"]}, "motd": "x"}})
    changed = (await api.put("/api/metadata/role/web", json={"values": {"ntp": {"servers": ["b"]}}})).json()
    assert changed["nodes_changed"] == [{"node": "n1", "generation": first + 2}]
    again = (await api.put("/api/metadata/role/web", json={"values": {"ntp": {"servers": ["b"]}}})).json()
    assert again["nodes_changed"] == []
    hide = {"values": {"motd": None}, "mode": "replace"}
    doc = (await api.put("/api/nodes/n1/metadata", json=hide)).json()
    assert doc["document"]["values"] == {"ntp": {"servers": ["b"]}}
    assert doc["layers"]["role"] == {"ntp": {"servers": ["b"]}}


async def test_events_come_in_order_of_arrival(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    doc = (await api.get("/api/events", params={"node": "n1", "kind": "state"})).json()
    assert [e["stage"] for e in doc["events"]] == ["verifying", "manageable"]
    assert (await api.get("/api/events", params={"after": doc["last"], "node": "n1", "kind": "state"})).json()[
        "events"
    ] == []
    status = (await api.get("/api/status")).json()
    assert status["nodes"]["by_state"] == {"manageable": 1}
    assert json.loads((await api.get("/api/health")).text) == {"ok": True}


async def test_the_newest_events_are_the_last_ones_in_order(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "active")
    everything = (await api.get("/api/events", params={"limit": 10_000})).json()["events"]
    last = (await api.get("/api/events", params={"limit": 5, "newest": 1})).json()
    assert last["events"] == everything[-5:]
    assert last["last"] == str(everything[-1]["seq"])
    faults = (await api.get("/api/events", params={"node": "n1", "kind": "verb", "newest": 1})).json()["events"]
    assert [e["stage"] for e in faults] == [e["stage"] for e in everything if e["kind"] == "verb"]
