"""The audit log, projects, and sealing keys that are made anew."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from baremetal.api import auditlog
from baremetal.api.app import create_app, parties_in
from baremetal.api.auditlog import Audited, AuditLog
from baremetal.api.auth import Accounts, Guard
from baremetal.secrets import Secret
from baremetal.store import rotation, secrets
from baremetal.store.seal import Sealer, key_id
from baremetal.workflows import metadata

V = {"X-OpenStack-Ironic-API-Version": "1.89"}


def accounts(directory: Path) -> Accounts:
    entries = [
        {"name": name, "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest()} | more
        for name, role, more in (
            ("root", "admin", {}),
            ("eve", "observer", {}),
            ("red", "operator", {"project": "red"}),
            ("blue", "operator", {"project": "blue"}),
        )
    ]
    (directory / "api-tokens.json").write_text(json.dumps(entries))
    return Accounts(directory)


@pytest.fixture
async def api(bench: Any, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    log = AuditLog(tmp_path / "logs/audit.jsonl")
    guard = Guard(create_app(bench.con, None, log), accounts(tmp_path), parties_in(bench.con))
    transport = httpx.ASGITransport(app=Audited(guard, log), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control", headers=V) as client:
        yield client
    log.close()


def by(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def test_who_asked_what_of_which_node_with_which_result(api: httpx.AsyncClient, tmp_path: Path) -> None:
    await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "n1"}, headers=by("root"))
    await api.put("/v1/nodes/n1/states/power", json={"target": "x", "password": "hush"}, headers=by("root"))
    await api.get("/v1/nodes/n1", headers=by("eve"))
    await api.delete("/v1/nodes/n1", headers=by("eve"))
    await api.get("/api/nodes", headers=by("nobody"))
    entries = (await api.get("/api/audit", headers=by("root"))).json()["entries"]
    told = [(e["who"], e["method"], e["node"], e["status"]) for e in entries]
    assert told == [
        ("root", "POST", "n1", 201),
        ("root", "PUT", "n1", 400),
        ("", "DELETE", "n1", 403),
        ("", "GET", "", 401),
    ]
    assert "hush" not in (tmp_path / "logs/audit.jsonl").read_text()
    only = (await api.get("/api/audit?node=n1&limit=1", headers=by("root"))).json()["entries"]
    assert [e["method"] for e in only] == ["DELETE"]
    assert (await api.get("/api/audit", headers=by("eve"))).status_code == 403


def test_the_audit_log_turns_over_and_keeps_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditlog, "MOST_BYTES", 500)
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(40):
        log.write({"n": number})
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"cut')
    assert [e["n"] for e in log.newest(45)] == list(range(40))
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


async def test_a_project_sees_and_touches_its_own_nodes_only(api: httpx.AsyncClient) -> None:
    made = await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "r1"}, headers=by("red"))
    assert (made.status_code, made.json()["owner"]) == (201, "red")
    await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "b1", "owner": "blue"}, headers=by("root"))
    for path in ("/v1/nodes", "/v1/nodes/detail", "/v1/nodes?sort_key=uuid"):
        assert [n["name"] for n in (await api.get(path, headers=by("red"))).json()["nodes"]] == ["r1"]
    assert [n["name"] for n in (await api.get("/api/nodes", headers=by("red"))).json()["nodes"]] == ["r1"]
    for method, path in (("GET", "/v1/nodes/b1"), ("DELETE", "/v1/nodes/b1"), ("GET", "/api/nodes/b1/explain")):
        assert (await api.request(method, path, headers=by("red"))).status_code == 404
    for path in ("/api/metadata/site", "/api/events", "/metrics", "/api/status", "/v1/conductors"):
        assert (await api.get(path, headers=by("red"))).status_code == 403
    lease = [{"op": "add", "path": "/lessee", "value": "blue"}]
    assert (await api.patch("/v1/nodes/r1", json=lease, headers=by("red"))).status_code == 200
    assert (await api.get("/v1/nodes/r1", headers=by("blue"))).status_code == 200
    assert (await api.patch("/v1/nodes/r1", json=lease, headers=by("blue"))).status_code == 403
    port = {"address": "52:54:00:00:00:77", "node_uuid": made.json()["uuid"]}
    assert (await api.post("/v1/ports", json=port, headers=by("red"))).status_code == 201
    assert len((await api.get("/v1/ports", headers=by("blue"))).json()["ports"]) == 1
    await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "x1"}, headers=by("root"))
    assert (await api.post("/v1/ports", json={**port, "node_uuid": "x1"}, headers=by("red"))).status_code == 400


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", "Basic !!", "Basic " + base64.b64encode(b"a:b").decode(), "Bearer " + "y" * 9000],
)
async def test_forged_credentials_are_refused_before_anything_answers(api: httpx.AsyncClient, header: str) -> None:
    for path in ("/v1/nodes", "/api/nodes", "/api/openapi.json", "/metrics", "/v1/nodes/none"):
        assert (await api.get(path, headers={"Authorization": header})).status_code in (401, 429)
    assert (await api.get("/")).status_code == 200


async def test_everything_sealed_opens_with_the_new_keys_only(bench: Any) -> None:
    con = bench.con
    await bench.enroll("n1", password="s3cret")
    change = metadata.Change("site", "", {"a": {"b": "c"}}, by="test")
    await con.write(lambda c: metadata.set_layer(c, con.world.metadata, con.signer, change, 1.0))
    await bench.to("n2", "active")
    old = {"operator": b"o" * 32, "metadata": b"m" * 32}
    new = {name: bytes(reversed(range(32))) if name == "operator" else b"n" * 32 for name in old}
    pairs = {key_id(old[name]): (Sealer(old[name]), Sealer(new[name])) for name in old}
    count = await con.store.write(lambda c: rotation.reseal(c, pairs))
    assert count >= 4
    text = bench.store.read(
        lambda c: " ".join(str(row) for t in rotation.PLACES for row in c.execute(t.table.select()))
    )
    assert not any(key in text for key in pairs)
    world = dataclasses.replace(con.world, operator=Sealer(new["operator"]), metadata=Sealer(new["metadata"]))
    node = bench.node("n1")
    opened = bench.store.read(lambda c: secrets.get(c, world.operator, node.id, secrets.BMC_PASSWORD))
    assert opened == Secret("s3cret")
    assert await con.store.write(lambda c: rotation.reseal(c, pairs)) == 0
