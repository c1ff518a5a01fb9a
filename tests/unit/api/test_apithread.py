"""The API's thread: looks are answered there, work hops to the control loop, a busy loop delays no look."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.serve.apithread import ApiThread, Front
from baremetal.serve.listen import bind

V = {"X-OpenStack-Ironic-API-Version": "1.89"}


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    sock = bind("127.0.0.1", 0)
    thread = ApiThread()
    await thread.listen(Front(create_app(bench.con), asyncio.get_running_loop()), sock)
    base = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=base, headers=V, timeout=90) as client:
        yield client
    await thread.close()


async def test_looks_and_work(api: httpx.AsyncClient) -> None:
    made = await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "n1"})
    assert made.status_code == 201
    assert (await api.get("/v1/nodes/n1")).json()["uuid"] == made.json()["uuid"]
    patched = await api.patch("/v1/nodes/n1", json=[{"op": "add", "path": "/extra/a", "value": 1}])
    assert patched.status_code == 200
    assert (await api.get("/v1/nodes/detail")).json()["nodes"][0]["extra"] == {"a": 1}
    assert (await api.get("/v1/nodes/n1/validate")).status_code == 200
    assert (await api.get("/api/nodes/n1")).json()["name"] == "n1"
    assert (await api.get("/api/nope")).status_code == 404
    assert (await api.post("/v1/nodes", content=b"{")).status_code == 400
    assert (await api.delete("/v1/nodes/n1")).status_code == 204
    assert (await api.head("/v1/nodes")).status_code == 200


async def test_events_are_streamed_and_the_stream_ends_with_its_client(api: httpx.AsyncClient, bench: Any) -> None:
    async with api.stream("GET", "/api/events/stream") as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == ": watching"
        await bench.enroll("n1")
        async with asyncio.timeout(90):
            async for line in lines:
                if line.startswith("event: verb"):
                    break
    async with asyncio.timeout(90):
        while any("Front" in repr(task.get_coro()) for task in asyncio.all_tasks()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_busy_control_loop_delays_no_look(api: httpx.AsyncClient) -> None:
    await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "n1"})
    busy, answered = threading.Event(), threading.Event()
    looking = asyncio.create_task(asyncio.to_thread(_look, str(api.base_url), busy, answered))
    await asyncio.sleep(0)
    busy.set()
    assert answered.wait(60), "a pass that does not let go, until the looks are answered"
    await looking


def _look(base: str, busy: threading.Event, answered: threading.Event) -> None:
    """Several looks, all of them while the control loop is busy."""
    busy.wait(60)
    with httpx.Client(base_url=base, headers=V, timeout=60) as client:
        for _ in range(4):
            assert client.get("/v1/nodes/n1").status_code == 200
    answered.set()


async def test_an_accident_of_ours_still_gets_its_answer(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("baremetal.api.native.networks.conductor", broken)
    answer = await api.get("/api/networks")
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "code": "internal",
        "brief": "the server failed on GET /api/networks: ZeroDivisionError",
        "detail": "",
        "fix": "the server's log has the details; report it",
    }
