"""An image that a node has, or is about to get, is not deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.store import events


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


async def test_refused_while_a_node_needs_it(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    bench.rack.boxes["n1"].faults.add("agent-dies")
    await bench.ask("n1", "deploy", image="web")
    answer = await api.delete("/api/images/web")
    assert (answer.status_code, "used by n1" in answer.text) == (409, True), "it is on its way there"
    bench.rack.boxes["n1"].faults.clear()


async def test_refused_while_a_node_has_it_and_noted_when_it_goes(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "active")
    answer = await api.delete("/api/images/web")
    assert (answer.status_code, "deploy another image there first" in answer.text) == (409, True)
    assert (await api.delete("/api/images/web?force=1")).json()["deleted"] == "web"
    await bench.ask("n1", "undeploy")
    await bench.until("n1", "available")
    assert (await api.delete("/api/images/web")).status_code == 200
    told = [e for _, e in bench.store.read(events.newest) if e.stage == "image-deleted"]
    assert len(told) == 2
    assert (await api.delete("/api/images/nothing")).status_code == 404
