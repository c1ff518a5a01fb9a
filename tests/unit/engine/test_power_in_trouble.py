"""Power while things go wrong: a system that does not shut down, a node whose BMC nobody named, a check that breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.model.node import Power


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


async def test_a_soft_off_that_takes_long_is_told_and_can_be_cut_short(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "active")
    box = bench.rack.boxes["n1"]
    box.bmc.faults.add("ignores-soft")
    assert (await api.put("/api/nodes/n1/power", json={"target": "soft-off"})).status_code == 202
    said = (await api.get("/api/nodes/n1/explain")).json()
    assert said["where"] == "active, power soft-off under way"
    assert said["why"] == "the system was asked to shut down"
    assert "power is cut" in said["next"]
    assert said["can"][0] == "baremetal node power off n1"
    for path, body in (("power", {"target": "on"}), ("verbs/undeploy", {})):
        refused = (await api.put(f"/api/nodes/n1/{path}", json=body)).json()["error"]
        assert "baremetal node power off n1" in refused["fix"], refused
    assert (await api.put("/api/nodes/n1/power", json={"target": "off"})).status_code == 202
    node = await bench.when("n1", lambda n: n.power_wanted is None)
    assert (node.power, node.fault, box.bmc.powered) == (Power.OFF, None, False)


async def test_without_a_bmc_address_nothing_is_begun_and_the_way_out_is_named(
    bench: Any, api: httpx.AsyncClient
) -> None:
    await bench.to("n1", "active")
    assert (await api.patch("/api/nodes/n1", json={"bmc_url": ""})).status_code == 200
    way_out = "baremetal node set n1 --bmc ipmi://user@address"
    for method, path, body in (
        ("PUT", "power", {"target": "off"}),
        ("PUT", "verbs/undeploy", {}),
        ("GET", "sensors", None),
        ("GET", "boot-device", None),
        ("GET", "console/live", None),
        ("POST", "bmc/audit", {}),
    ):
        answer = await api.request(method, f"/api/nodes/n1/{path}", json=body)
        said = answer.json()["error"]
        assert (answer.status_code, said["brief"], said["fix"]) == (409, "n1 has no BMC address", way_out), path
    told = (await api.get("/api/nodes/n1/explain")).json()
    assert (told["can"][0], told["fault"]) == (way_out, None)
    checks = (await api.get("/api/nodes/n1/validate")).json()["checks"]
    said = {check["name"]: (check["verdict"], check["fix"]) for check in checks if check["name"].startswith("bmc-")}
    assert said == {"bmc-answers": ("fail", way_out), "bmc-boot-override": ("skip", "")}


async def test_a_bmc_address_taken_away_in_the_middle_leaves_no_fault_behind_once_it_is_back(
    bench: Any, api: httpx.AsyncClient
) -> None:
    await bench.to("n1", "active")
    box, url = bench.rack.boxes["n1"], bench.node("n1").bmc_url
    box.bmc.faults.add("ignores-soft")
    await api.put("/api/nodes/n1/power", json={"target": "soft-off"})
    await api.patch("/api/nodes/n1", json={"bmc_url": ""})
    node = await bench.when("n1", lambda n: n.fault is not None and n.power_wanted is None)
    assert (node.fault.code, node.fault.brief) == ("no-bmc", "n1 has no BMC address")
    await api.patch("/api/nodes/n1", json={"bmc_url": url})
    await bench.con._sync.once()
    assert (await bench.when("n1", lambda n: n.fault is None)).state == "active"


async def test_a_check_that_breaks_stops_no_other(
    bench: Any, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.to("n1", "manageable")
    box = bench.rack.boxes["n1"]
    monkeypatch.setattr(box.bmc, "boot", None)  # what nobody thought of
    answer = (await api.get("/api/nodes/n1/validate")).json()
    broken = [check for check in answer["checks"] if "itself failed" in check["reason"]]
    assert [check["name"] for check in broken] == ["bmc-boot-override"]
    assert broken[0]["fix"]
    assert len(answer["checks"]) > 5
