"""A row of the database that cannot be read is told by name and left as it is; no other node suffers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app

IRONIC = {"X-OpenStack-Ironic-API-Version": "1.80"}
DAMAGE = [
    ("state", "state = 'nonsense'"),
    ("power", "power = 'purple'"),
    ("firmware", "firmware = 7"),
    ("work", "work = '{broken', wanted = 'inspect', state = 'inspecting'"),
    ("labels", "labels = '[1'"),
    ("fault", "fault = '7'"),
    ("fault", "fault = '{\"x\": 1}'"),
    ("traits", "traits = '\"x\"'"),
    ("properties", "properties = '[]'"),
    ("config", "config = '7'"),
    ("extra", "extra = 'null'"),
    ("wake_at", "wake_at = 'soon'"),
    ("fence", "fence = 'x'"),
    ("wait_until", "wait_because = 'x', wait_until = NULL"),
    ("root_device", "root_device = x'00ff'"),
]


@pytest.mark.parametrize(("column", "change"), DAMAGE)
async def test_a_damaged_record_is_told_and_harms_no_other(bench: Any, column: str, change: str) -> None:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as api:
        for name in ("n1", "n2"):
            await bench.enroll(name)
            await bench.until(name, "manageable")
        await bench.store.write(lambda c: c.exec_driver_sql(f"UPDATE nodes SET {change} WHERE name = 'n1'"))
        bench.con.touched(bench.node("n1").id)
        listed = (await api.get("/api/nodes")).json()["nodes"]
        assert [node["name"] for node in listed] == ["n1", "n2"]
        fault = (await api.get("/api/nodes/n1")).json()["fault"]
        assert fault["code"] == "record-damaged"
        assert column in fault["brief"] + fault["detail"]
        assert "baremetal node delete n1 --force" in fault["fix"]
        for path in ("/api/nodes/n1/explain", "/api/nodes/n1/timeline", "/api/status", "/api/metrics"):
            assert (await api.get(path)).status_code in (200, 404), path
        assert (await api.get("/v1/nodes/detail", headers=IRONIC)).status_code == 200
        assert [p for p in (await api.get("/api/db/check")).json()["problems"] if "n1" in p]
        refused = await api.put("/api/nodes/n1/verbs/inspect", json={})
        assert (refused.status_code, "damaged" in refused.json()["error"]["brief"]) == (409, True)
        assert (await api.put("/api/nodes/n2/verbs/inspect", json={})).status_code == 202
        assert (await bench.until("n2", "manageable")).fault is None

    await bench.con.stop()  # a restart finds the same
    bench.store.close()
    bench.open()
    await bench.start()
    assert {view.node for view in bench.rack.views.values()} >= {bench.node("n2").id}
    await bench.ask("n2", "inspect")
    assert (await bench.until("n2", "manageable")).fault is None
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as api:
        assert (await api.delete("/api/nodes/n1?force=1")).status_code == 204
        assert (await api.get("/api/db/check")).json()["ok"]


async def test_a_damaged_event_breaks_no_timeline(bench: Any) -> None:
    await bench.to("n1", "available")
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as api:
        await bench.store.write(lambda c: c.exec_driver_sql("UPDATE events SET data = '{oops' WHERE kind = 'step'"))
        for path in ("/api/nodes/n1/timeline", "/api/nodes/n1/history", "/api/events", "/api/nodes/n1/explain"):
            assert (await api.get(path)).status_code == 200, path
