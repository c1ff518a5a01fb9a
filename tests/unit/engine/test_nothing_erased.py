"""Provide without erasing is allowed, as in Ironic; whoever looks at the node afterwards is told so, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app

DROPPED = {"steps": [{"step": "erase_devices_metadata", "priority": 0}]}


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


async def test_what_was_not_erased_is_told_until_it_is(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "manageable")
    dry = {"verb": "provide", "nodes": ["n1"], "args": DROPPED, "dry_run": True}
    would = (await api.post("/api/bulk", json=dry)).json()["results"][0]["consequences"]
    assert "nothing is erased" in would[1]
    assert not [line for line in would if "ERASES" in line]
    await api.put("/api/nodes/n1/verbs/provide", json=DROPPED)
    await bench.until("n1", "available")
    assert bench.rack.boxes["n1"].wiped == 0
    because = "provide by operator asked for erase_devices_metadata at priority 0"
    said = (await api.get("/api/nodes/n1/explain")).json()
    assert said["why"] == f"free for a deploy, but nothing on its disks was erased: {because}"
    stages = (await api.get("/api/nodes/n1/timeline")).json()["stages"]
    [told] = [stage for stage in stages if "not-erased" in stage["stage"]]
    assert (told["outcome"], told["detail"]) == ("alarm", because)
    await api.put("/api/nodes/n1/verbs/manage", json={})
    await bench.until("n1", "manageable")
    await api.put("/api/nodes/n1/verbs/provide", json={})
    await bench.until("n1", "available")
    assert bench.rack.boxes["n1"].wiped == 1
    assert (await api.get("/api/nodes/n1/explain")).json()["why"] == "clean, and free for a deploy"


async def test_manage_says_whether_it_asks_the_bmc(bench: Any, api: httpx.AsyncClient) -> None:
    for name, state, said in (
        ("n1", "manageable", "asks the BMC who it is"),
        ("n2", "available", "back to manageable; the machine is not touched"),
    ):
        await bench.to(name, state)
        dry = {"verb": "manage", "nodes": [name], "dry_run": True}
        assert (await api.post("/api/bulk", json=dry)).json()["results"][0]["consequences"] == [said]


async def test_a_release_without_automated_clean_is_told_too(make_bench: Any) -> None:
    async with make_bench(automated_clean=False) as bench:
        await bench.to("n1", "active")
        await bench.ask("n1", "undeploy")
        node = await bench.until("n1", "available")
        assert node.extra["disks"]["unerased"] == "the setting automated_clean is off"
