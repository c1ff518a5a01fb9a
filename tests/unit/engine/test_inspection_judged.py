"""Stored rules and SKUs on a node that is inspected, and on what was found before."""

from __future__ import annotations

from typing import Any

import httpx

from baremetal.api.app import create_app
from baremetal.model.node import State
from baremetal.store import events, inventories, records
from baremetal.workflows import judgement

RULE = {
    "name": "simulated",
    "when": [{"field": "cpu.model_name", "op": "eq", "value": "Simulated"}],
    "then": [
        {"set": "resource_class", "to": "sim"},
        {"set": "labels.serial", "to": "{system_vendor.serial_number}"},
        {"add-trait": "CUSTOM_SIM"},
    ],
}
SKU = {"name": "sim-4", "when": RULE["when"], "expect": {"cpu.count": 4, "interfaces.#": 2}}


async def put(bench: Any, kind: str, doc: dict[str, Any]) -> None:
    await bench.con.write(lambda c: judgement.put(c, kind, doc, bench.con.clock.now()))


async def test_rules_are_applied_when_a_node_is_inspected(bench: Any) -> None:
    await put(bench, judgement.RULE, RULE)
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "inspect")
    node = await bench.until("n1", "manageable")
    assert (node.resource_class, node.traits) == ("sim", ("CUSTOM_SIM",))
    assert node.labels["serial"].startswith("FAKE-")
    told = bench.store.read(lambda c: events.of_node(c, node.id, kinds=["inventory"]))
    assert [e.stage for e in told] == ["stored", "rules"]


async def test_other_hardware_than_the_sku_is_a_fault_with_the_differences(bench: Any) -> None:
    await put(bench, judgement.SKU, SKU)
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "inspect")
    node = await bench.until("n1", "inspecting")
    assert (node.state, node.fault.code) == (State.INSPECTING, "hardware-differs")
    assert node.fault.evidence["differences"] == [{"field": "interfaces.#", "expected": "eq 2", "found": 1}]
    stored = bench.store.read(lambda c: inventories.get(c, node.id))
    assert stored is not None, "what was found is kept whole, whatever was made of it"


async def test_what_was_found_can_be_judged_again_without_the_machine(bench: Any) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "inspect")
    await bench.until("n1", "manageable")
    starts = len(bench.rack.boxes["n1"].bmc.starts)
    tried = bench.store.read(lambda c: judgement.again(c, bench.con.world, "n1", 0.0, dry_run=True, extra=RULE))
    assert tried["changes"]["resource_class"] == "sim"
    several = [RULE | {"name": "later", "priority": -1, "then": [{"set": "resource_class", "to": "won"}]}, RULE]
    tried = bench.store.read(lambda c: judgement.again(c, bench.con.world, "n1", 0.0, dry_run=True, extra=several))
    assert tried["changes"]["resource_class"] == "won", "in the order of their priorities"
    assert bench.node("n1").resource_class == "baremetal", "only tried"
    await put(bench, judgement.RULE, RULE)
    await bench.con.write(lambda c: judgement.again(c, bench.con.world, "n1", bench.con.clock.now()))
    assert bench.node("n1").resource_class == "sim"
    assert len(bench.rack.boxes["n1"].bmc.starts) == starts


async def test_a_name_that_is_taken_fails_the_inspection(bench: Any) -> None:
    await put(bench, judgement.RULE, {"name": "all", "then": [{"set": "name", "to": "n2"}]})
    await bench.enroll("n1")
    await bench.enroll("n2")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "inspect")
    node = await bench.until("n1", "inspecting")
    assert (node.name, node.fault.code) == ("n1", "inspection-rule")
    assert "another node has" in node.fault.brief


async def test_over_http_rules_are_stored_listed_tried_and_deleted(bench: Any) -> None:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as api:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        assert (await api.post("/api/nodes/n1/inventory/reprocess", json={})).status_code == 404
        await bench.ask("n1", "inspect")
        await bench.until("n1", "manageable")
        assert (await api.put("/api/inspection/rules/simulated", json=RULE)).status_code == 200
        assert (await api.put("/api/inspection/rules/other", json=RULE)).status_code == 400
        assert (await api.put("/api/inspection/rules/bad", json={"then": []})).status_code == 400
        assert (await api.put("/api/inspection/skus/sim-4", json=SKU)).status_code == 200
        assert [r["name"] for r in (await api.get("/api/inspection/rules")).json()["rules"]] == ["simulated"]
        tried = (await api.post("/api/nodes/n1/inventory/reprocess", json={"dry_run": True})).json()
        assert tried["fault"]["code"] == "hardware-differs"
        assert bench.node("n1").resource_class == "baremetal"
        done = await api.post("/api/nodes/n1/inventory/reprocess", json={})
        assert (done.status_code, bench.node("n1").resource_class) == (200, "sim")
        extra = {"dry_run": False, "extra": RULE}
        assert (await api.post("/api/nodes/n1/inventory/reprocess", json=extra)).status_code == 400
        assert (await api.delete("/api/inspection/rules/simulated")).status_code == 200
        assert (await api.delete("/api/inspection/rules/simulated")).status_code == 404
        assert (await api.get("/api/inspection/nonsense")).status_code == 404


async def test_a_rule_of_an_older_version_that_could_hold_up_the_server_is_not_tried_but_told(bench: Any) -> None:
    old = {**RULE, "name": "old", "when": [{"field": "cpu.model_name", "op": "contains", "value": "^(S+)+$"}]}
    now = bench.con.clock.now()
    await bench.con.write(lambda c: records.put(c, judgement.RULE, "old", old, now))
    await put(bench, judgement.RULE, RULE)
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "inspect")
    node = await bench.until("n1", "inspecting")
    assert (node.state, node.fault.code) == (State.INSPECTING, "inspection-rule")
    assert "stored rule old cannot be used" in node.fault.brief
    transport = httpx.ASGITransport(app=create_app(bench.con))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as api:
        said = (await api.get("/api/db/check")).json()
        assert not said["ok"]
        assert "baremetal inspection rule delete old" in said["problems"][0]
        assert (await api.delete("/api/inspection/rules/old")).status_code < 300
        assert (await api.get("/api/db/check")).json() == {"ok": True, "problems": []}
    await bench.ask("n1", "inspect")
    assert (await bench.until("n1", "manageable")).resource_class == "sim"
