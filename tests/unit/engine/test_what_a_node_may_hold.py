"""What operators write of a node is checked when they write it, not when a machine stands ready to be erased."""

from __future__ import annotations

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


REFUSED = [  # change, what is said
    ({"root_device": {"nosuch": 1}}, "unknown root device hint 'nosuch'"),
    ({"root_device": {"size": ">= banana"}}, "is no number of GiB"),
    ({"root_device": {"serial": ["S1"]}}, "has the value ['S1']"),
    ({"traits": ["two words"]}, "is no trait"),
    ({"traits": ["X" * 256]}, "is no trait"),
    ({"traits": ["a\x1b[31m"]}, "is no trait"),
    ({"traits": [f"T{i}" for i in range(51)]}, "too many"),
    ({"traits": "CUSTOM_A"}, "list of texts"),
    ({"resource_class": "x\ny"}, "control characters"),
    ({"arch": "x\x00"}, "control characters"),
]
TAKEN = [
    {"root_device": {"size": ">= 100", "rotational": False}},
    {"root_device": {"serial": "<or> S1 <or> S2"}},
    {"root_device": {}},
    {"traits": ["CUSTOM_GPU", "HW_CPU_X86_VMX", "ssd"]},
    {"resource_class": "compute"},
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
async def test_refused(bench: Any, api: httpx.AsyncClient, change: dict[str, Any], said: str) -> None:
    await bench.enroll("n1")
    before = (await api.get("/api/nodes/n1")).json()
    for answer in (
        await api.patch("/api/nodes/n1", json=change),
        await api.post("/api/nodes", json={"name": "n2", "manage": False, **change}),
    ):
        assert answer.status_code == 400
        assert said in answer.json()["error"]["brief"]
    after = (await api.get("/api/nodes/n1")).json()
    assert {key: before[key] for key in change} == {key: after[key] for key in change}


@pytest.mark.parametrize("change", TAKEN)
async def test_taken(bench: Any, api: httpx.AsyncClient, change: dict[str, Any]) -> None:
    await bench.enroll("n1")
    assert (await api.patch("/api/nodes/n1", json=change)).status_code == 200
