"""History, rollback, schemas, secrets and staged changes of metadata, over a live conductor."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.protocol.plane import Message
from baremetal.store import boots
from baremetal.store.boots import Boot
from baremetal.workflows.sshkey import openssh_pair


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


async def ok(answer: Any) -> Any:
    found = await answer
    assert found.status_code < 300, found.text
    return found.json()


async def refused(answer: Any, *said: str) -> Any:
    found = await answer
    assert found.status_code == 400, found.text
    told = found.json()["error"]
    for text in said:
        assert text in told["brief"] + told["detail"], told
    return told


async def nodes_with_agents(bench: Any, count: int, **labels: str) -> list[str]:
    """Enrolled nodes with a live instance, as after a deploy."""
    names = [f"n{i}" for i in range(count)]
    for name in names:
        node = await bench.enroll(name, manage=False, labels=labels)
        boot = Boot(f"b-{name}", node.id, boots.INSTANCE, "up", token_sha256="0" * 64, created_at=1.0)
        await bench.con.write(lambda c, boot=boot: boots.insert(c, boot))
    return names


async def report(bench: Any, api: httpx.AsyncClient, name: str, outcome: str, **more: Any) -> None:
    generation = (await api.get(f"/api/nodes/{name}/metadata")).json()["generation"]
    body = {"report": {"metadata_generation": generation, "outcome": outcome, **more}}
    bench.serial = getattr(bench, "serial", 0) + 1
    message = Message(f"r{bench.serial}", "config-report", bench.con.clock.now(), bench.node(name).id, body)
    await bench.con.inbox.messages([message])


async def rollout(api: httpx.AsyncClient, **wanted: Any) -> Any:
    """The roll-out, once it is like this; `applying`: the nodes that are asked now."""
    asked = wanted.pop("applying", None)
    until = time.monotonic() + 90
    while True:
        doc = (await ok(api.get("/api/metadata-rollout")))["rollout"]
        if all(doc[k] == v for k, v in wanted.items()) and asked in (None, having(doc, "applying")):
            return doc
        assert time.monotonic() < until, doc
        await asyncio.sleep(0.01)


def at_rest(path: Path) -> bytes:
    return b"".join(p.read_bytes() for p in path.glob("test.db*"))


def having(doc: Any, outcome: str) -> list[str]:
    return [row["node"] for row in doc["nodes"] if row["outcome"] == outcome]


async def test_a_held_get_returns_when_the_node_reports(bench: Any, api: httpx.AsyncClient) -> None:
    """A report moves no fence: `metadata set --wait` would see it only when the request runs out."""
    await nodes_with_agents(bench, 1)
    fence = (await ok(api.get("/api/nodes/n0")))["fence"]
    ask = {"wait": 30, "fence": fence, "reported": 0}
    held = asyncio.create_task(ok(api.get("/api/nodes/n0", params=ask)))
    await asyncio.sleep(0.05)
    assert not held.done()
    await report(bench, api, "n0", "applied")
    async with asyncio.timeout(15):
        assert (await held)["config"]["outcome"] == "applied"
        assert (await ok(api.get("/api/nodes/n0", params=ask)))["config"]["generation"] == 1, "it came meanwhile"


async def test_history_names_who_changed_what_and_rollback_is_a_change(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1", manage=False, labels={"role": "web"})
    for values in ({"port": 80}, {"port": 81, "admin_password": "hunter2"}):
        await ok(api.put("/api/metadata/role/web", json={"values": values}, headers={"x-baremetal-user": "alice"}))
    changes = (await ok(api.get("/api/metadata-history?node=n1")))["changes"]
    assert [(c["by"], c["layer"], c["name"]) for c in changes] == [("alice", "role", "web")] * 2
    assert {"path": "port", "kind": "changed", "old": 80, "new": 81} in changes[0]["differences"]
    assert "hunter2" not in json.dumps(changes)
    back = await ok(api.post("/api/metadata-rollback", json={"layer": "role", "name": "web"}))
    assert back["values"] == {"port": 80}
    assert [n["generation"] for n in back["nodes_changed"]] == [4]
    past = (await ok(api.get("/api/nodes/n1/metadata/generations")))["generations"]
    assert [p["values"].get("port") for p in past] == [None, 80, 81, 80]
    again = await ok(api.post("/api/metadata-rollback", json={"layer": "role", "name": "web", "to": changes[0]["id"]}))
    assert again["values"]["port"] == 81
    assert (await api.post("/api/metadata-rollback", json={"layer": "site", "to": 1})).status_code == 404


SCHEMA = {
    "type": "object",
    "properties": {"web": {"type": "object", "properties": {"port": {"type": "integer"}}, "required": ["port"]}},
}


async def test_a_schema_refuses_what_no_node_may_have(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1", manage=False, labels={"role": "web"})
    place = {"layer": "role", "name": "web"}
    await ok(api.put("/api/metadata-schemas", json={**place, "schema": SCHEMA}))
    wrong = {"values": {"web": {"port": "eighty"}}}
    for path in ("/api/metadata/site", "/api/metadata/role/web", "/api/nodes/n1/metadata"):
        await refused(api.put(path, json=wrong), "n1: web.port: 'eighty' is not of type 'integer'")
    await refused(api.put("/api/metadata/site", json={"values": {"web": {"x": 1}}}), "'port' is a required property")
    await ok(api.put("/api/metadata/site", json={"values": {"web": {"port": 80}}}))
    assert (await ok(api.get("/api/nodes/n1/metadata")))["document"]["values"] == {"web": {"port": 80}}
    stricter = {"properties": {"web": {"properties": {"port": {"minimum": 1024}}}}}
    await refused(api.put("/api/metadata-schemas", json={"layer": "site", "schema": stricter}), "n1: web.port")
    await refused(
        api.put("/api/metadata-schemas", json={"layer": "site", "schema": {"type": "wrong"}}), "no JSON schema"
    )
    await refused(
        api.put("/api/metadata-schemas", json={"layer": "site", "schema": {"$ref": "https://example.org/x"}}),
        "does not hold",
    )
    await ok(api.put("/api/metadata-schemas", json={**place, "schema": None}))
    await ok(api.put("/api/metadata/site", json=wrong))


async def test_a_role_without_nodes_is_checked_as_far_as_it_goes(bench: Any, api: httpx.AsyncClient) -> None:
    await ok(api.put("/api/metadata-schemas", json={"layer": "role", "name": "db", "schema": SCHEMA}))
    await ok(api.put("/api/metadata/role/db", json={"values": {"web": {}}}))
    await refused(api.put("/api/metadata/role/db", json={"values": {"web": {"port": []}}}), "web.port")


async def test_secrets_go_to_their_owner_and_are_shown_to_nobody(bench: Any, api: httpx.AsyncClient) -> None:
    for name in ("n1", "n2"):
        await bench.enroll(name, manage=False)
    ask = {"values": {"ldap": {"bind": {"$secret": "ldap"}}, "key": {"$generate": "ssh-key", "scope": "node"}}}
    await refused(api.put("/api/nodes/n1/metadata", json=ask), "n1 has no secret 'ldap'")
    await ok(api.put("/api/metadata-secrets", json={"owner": "n2", "name": "ldap", "value": "of-n2"}))
    await refused(api.put("/api/nodes/n1/metadata", json=ask), "n1 has no secret 'ldap'")
    await ok(api.put("/api/metadata-secrets", json={"owner": "n1", "name": "ldap", "value": "s3cret"}))
    shown = await ok(api.put("/api/nodes/n1/metadata", json=ask))
    assert shown["document"]["values"] == {"ldap": {"bind": "******"}, "key": "******"}
    values = (await ok(api.get("/api/nodes/n1/metadata?reveal=1")))["document"]["values"]
    assert values["ldap"]["bind"] == "s3cret"
    assert values["key"]["private"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert (await ok(api.get("/api/nodes/n1/metadata")))["generation"] == shown["generation"], "generated keys stay"
    listed, both = (await ok(api.get("/api/metadata-secrets")))["secrets"], [("n1", "ldap"), ("n2", "ldap")]
    assert [(s["owner"], s["name"]) for s in listed] in ([*both], [*reversed(both)])
    assert "s3cret" not in json.dumps(listed)
    assert b"s3cret" not in at_rest(bench.path), "sealed at rest"
    told = await ok(api.put("/api/metadata-secrets", json={"owner": "n1", "name": "ldap", "value": "new"}))
    assert told["nodes_changed"] == 1
    kept = await api.put("/api/metadata-secrets", json={"owner": "n1", "name": "ldap", "value": None})
    assert (kept.status_code, kept.json()["error"]["brief"]) == (409, "values refer to this secret")


def test_ssh_reads_the_generated_key(tmp_path: Path) -> None:
    pair = openssh_pair("n1", b"7" * 32)
    assert pair == openssh_pair("n1", b"7" * 32)
    (tmp_path / "key").write_text(pair["private"])
    (tmp_path / "key").chmod(0o600)
    done = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], capture_output=True, text=True)
    assert done.stdout.split()[:2] == pair["public"].split()[:2], done.stderr


async def test_a_change_goes_canary_first_and_batch_by_batch(bench: Any, api: httpx.AsyncClient) -> None:
    names = await nodes_with_agents(bench, 7)
    ask = {"values": {"a": 1}, "canary": 2, "batch": "3"}
    begun = (await ok(api.put("/api/metadata/site", json=ask)))["rollout"]
    assert having(begun, "applying") == ["n0", "n1"]
    await refused(api.put("/api/metadata/site", json={"values": {"a": 9}}), "roll-out 1 of this layer is running")
    await ok(api.put("/api/nodes/n5/metadata", json={"values": {"own": 1}}))
    values = (await ok(api.get("/api/nodes/n5/metadata")))["document"]["values"]
    assert values == {"own": 1}, "who waits keeps the old values, whatever else changes"
    await report(bench, api, "n0", "applied")
    await rollout(api, applying=["n1"])
    await report(bench, api, "n1", "applied")
    seen = await rollout(api, because="waiting for n2, n3, n4")
    assert having(seen, "waiting") == ["n5", "n6"]
    for name in names[2:5]:
        await report(bench, api, name, "unchanged")
    await rollout(api, because="waiting for n5, n6")
    for name in names[5:]:
        await report(bench, api, name, "applied")
    done = await rollout(api, state="done")
    assert done["summary"] == "7 of 7 applied; all 7 nodes have it"
    status = (await ok(api.get("/api/metadata/status")))["nodes"]
    assert all(row["applied"] == row["wanted"] for row in status)


async def test_the_first_failure_stops_it_and_abort_takes_it_back(bench: Any, api: httpx.AsyncClient) -> None:
    await nodes_with_agents(bench, 4)
    await ok(api.put("/api/metadata/site", json={"values": {"a": 0}}))
    for name in ("n0", "n1", "n2", "n3"):
        await report(bench, api, name, "applied")
    await ok(api.put("/api/metadata/site", json={"values": {"a": 1}, "canary": 1, "batch": "50%"}))
    fault = {"code": "config-script", "brief": "post-configure.d/51-keystone failed: exit status 1"}
    scripts = [{"phase": "post-configure", "name": "51-keystone", "exit": 1, "seconds": 0.1}]
    await report(bench, api, "n0", "failed", fault=fault, scripts=scripts)
    stopped = await rollout(api, state="stopped")
    assert "n0 failed (post-configure.d/51-keystone" in stopped["because"]
    assert having(stopped, "waiting") == ["n1", "n2", "n3"]
    row = next(r for r in (await ok(api.get("/api/metadata/status")))["nodes"] if r["node"] == "n0")
    assert (row["wanted"], row["tried"], row["applied"], row["where"]) == (3, 3, 2, "post-configure.d/51-keystone")
    told = await ok(api.post("/api/metadata-rollout", json={"do": "abort"}))
    assert told["rollout"]["state"] == "aborted"
    found = [(await ok(api.get(f"/api/nodes/n{i}/metadata"))) for i in range(4)]
    assert [f["document"]["values"] for f in found] == [{"a": 0}] * 4
    assert [f["generation"] for f in found] == [4, 2, 2, 2], "only who had it sees another generation"


async def test_resume_waits_for_a_new_report(bench: Any, api: httpx.AsyncClient) -> None:
    await nodes_with_agents(bench, 3)
    await ok(api.put("/api/metadata/site", json={"values": {"a": 1}, "canary": 1, "patience_s": 3600}))
    await report(bench, api, "n0", "failed", fault={"code": "x", "brief": "no"})
    await rollout(api, state="stopped")
    bench.con.clock.now = lambda now=bench.con.clock.now: now() + 10
    bench.con.world.now = bench.con.clock.now
    assert (await ok(api.post("/api/metadata-rollout", json={"do": "resume"})))["rollout"]["state"] == "running"
    await asyncio.sleep(0.05)
    assert having(await rollout(api, state="running"), "applying") == ["n0"]
    await report(bench, api, "n0", "applied")
    await rollout(api, because="waiting for n1, n2")


async def test_silence_is_a_failure_and_a_restart_loses_nothing(bench: Any, api: httpx.AsyncClient) -> None:
    await nodes_with_agents(bench, 2)
    await ok(api.put("/api/metadata/site", json={"values": {"a": 1}, "canary": 1, "patience_s": 5}))
    await bench.con.stop()
    bench.store.close()
    bench.open()
    later = bench.con.clock.now
    bench.con.clock.now = bench.con.world.now = lambda: later() + 60
    await bench.start()
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as fresh:
        assert "n0 said nothing for 5 s" in (await rollout(fresh, state="stopped"))["because"]
