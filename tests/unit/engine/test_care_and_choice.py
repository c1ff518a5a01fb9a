"""Allocation with its reasons, validation groups, backup and restore, references between nodes."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.errors import MachineError, UsageError
from baremetal.model.node import Node, Power, State
from baremetal.store import Store, care, nodes
from baremetal.store.seal import Sealer
from baremetal.workflows.allocation import Asked, choose, why_not


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


FREE = Node(
    "1", "n1", state=State.AVAILABLE, power=Power.OFF, resource_class="compute", traits=("SSD",), labels={"a": "b"}
)
WANT = Asked("compute", ("SSD",))
RULES = [  # what is different about the node, the rule that excludes it
    ({}, None),
    ({"resource_class": "gpu"}, "resource class is 'gpu'"),
    ({"traits": ()}, "lacks trait SSD"),
    ({"state": State.MANAGEABLE}, "is 'manageable', not 'available'"),
    ({"maintenance": "fan"}, "maintenance: fan"),
    ({"retired": True}, "is retired"),
    ({"power": Power.UNKNOWN}, "power state is unknown"),
    ({"id": "held"}, "held by allocation web-1"),
    ({"wanted": "deploy", "wanted_by": "bob"}, "asked for by bob"),
]


@pytest.mark.parametrize(("other", "rule"), RULES)
def test_each_rule_says_why_a_node_is_not_chosen(other: dict[str, Any], rule: str | None) -> None:
    told = why_not(replace(FREE, **other), WANT, {"held": "web-1"})
    assert told is None if rule is None else rule in (told or "")


def test_the_candidates_order_counts_else_the_longest_rest() -> None:
    rack = [replace(FREE, id=str(i), name=f"n{i}", state_since=float(10 - i)) for i in range(4)]
    assert choose(rack, WANT, {})[0] == rack[3]
    assert choose(rack, Asked("compute", candidates=("n2", "n1")), {})[0] == rack[2]
    chosen, excluded = choose(rack, Asked("gpu"), {})
    assert chosen is None
    assert len(excluded) == 4


async def test_allocations_over_http(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    first = (await api.post("/api/allocations", json={"name": "web-1", "resource_class": "baremetal"})).json()
    assert (first["state"], first["node"]) == ("active", "n1")
    second = (await api.post("/api/allocations", json={"resource_class": "baremetal"})).json()
    assert (second["state"], second["excluded"]) == ("error", [{"node": "n1", "rule": "is held by allocation web-1"}])
    assert (await api.delete("/api/allocations/web-1")).status_code == 204
    assert len((await api.get("/api/allocations")).json()["allocations"]) == 1
    assert (await api.post("/api/allocations", json={"resource_class": 3})).status_code == 400


@pytest.mark.parametrize("name", ["two words", "x" * 300, "", 7, {"a": 1}, ["a"], "a\nb"])
async def test_no_name_for_an_allocation(api: httpx.AsyncClient, name: Any) -> None:
    answer = await api.post("/api/allocations", json={"name": name, "resource_class": "baremetal"})
    assert answer.status_code == 400
    assert "is not a name for an allocation" in answer.json()["error"]["brief"]
    assert (await api.get("/api/allocations")).json() == {"allocations": []}


async def test_validation_groups_say_reason_and_fix(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1", macs=[])
    await bench.until("n1", "manageable")
    doc = (await api.get("/api/nodes/n1/validate", params={"group": "pre-deploy"})).json()
    by_name = {c["name"]: c for c in doc["checks"]}
    assert not doc["ok"]
    assert by_name["bmc-answers"]["verdict"] == "pass"
    assert by_name["inspected"]["verdict"] == "fail"
    assert by_name["network-served"]["verdict"] == "fail"
    assert by_name["boot-mode-fits"]["verdict"] == "skip"
    assert all(c["reason"] and (c["fix"] or c["verdict"] != "fail") for c in doc["checks"])
    bench.rack.boxes["n1"].bmc.faults.add("silent")
    doc = (await api.get("/api/nodes/n1/validate", params={"group": "pre-enroll"})).json()
    assert {c["name"]: c["verdict"] for c in doc["checks"]}["bmc-answers"] == "fail"
    assert (await api.get("/api/nodes/n1/validate", params={"group": "mid-deploy"})).status_code == 400
    upgrade = (await api.get("/api/nodes/n1/validate", params={"group": "pre-upgrade"})).json()
    assert {c["name"]: c["verdict"] for c in upgrade["checks"]}["database-sound"] == "pass"


async def test_backup_while_running_and_restore_after(bench: Any, api: httpx.AsyncClient, tmp_path: Path) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    made = (await api.post("/api/db/backup", json={"name": "one.db"})).json()
    assert (await api.post("/api/db/backup", json={"name": "../evil.db"})).status_code == 400
    assert (await api.get("/api/db/check")).json() == {"ok": True, "problems": []}
    url = f"sqlite:///{bench.path}/test.db"
    with pytest.raises(MachineError, match="in use"):
        care.restore(url, Path(made["path"]))
    other = f"sqlite:///{tmp_path}/other.db"
    assert care.restore(other, Path(made["path"])) is None
    store = Store.open(other)
    assert store.read(lambda c: nodes.get(c, "n1")).serial
    store.close()


def test_a_restore_that_is_killed_leaves_the_database_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, copy = f"sqlite:///{tmp_path}/a.db", tmp_path / "copy.db"
    store = Store.open(url)
    care.backup(store, copy)
    store.write_sync(lambda c: nodes.insert(c, FREE))
    store.close()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(care.shutil, "copyfileobj", killed)
    with pytest.raises(KeyboardInterrupt):
        care.restore(url, copy)
    monkeypatch.undo()
    before = (tmp_path / "a.db").read_bytes()
    old = care.restore(url, copy)
    assert old is not None
    assert old.read_bytes() == before
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600
    store = Store.open(url)
    assert store.read(lambda c: nodes.find(c, FREE.name)) is None
    store.close()


def test_a_damaged_backup_is_refused_and_a_corrupt_row_is_found(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    store = Store.open(url)
    store.write_sync(lambda c: nodes.insert(c, FREE))
    store.close()
    raw = sqlite3.connect(tmp_path / "a.db")
    raw.execute("UPDATE nodes SET state = 'dreaming'")
    raw.commit()
    raw.close()
    store = Store.open(url)
    problems = store.read(lambda c: care.check(c, Sealer(b"a" * 32), Sealer(b"b" * 32)))
    store.close()
    assert len(problems) == 1
    assert "dreaming" in problems[0]
    (tmp_path / "bad.db").write_bytes(b"x" * 5000)
    with pytest.raises(UsageError, match="no sound backup"):
        care.restore(url, tmp_path / "bad.db")


async def test_documents_that_speak_of_other_nodes_follow_them(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1", manage=False)
    values = {"peers": {"$nodes": "role=db", "give": "names"}, "secret": {"$generate": "password"}}
    await api.put("/api/metadata/defaults", json={"values": values})
    first = (await api.get("/api/nodes/n1/metadata")).json()
    assert first["document"]["values"]["peers"] == []
    body = {"name": "db1", "labels": {"role": "db"}, "manage": False}
    assert (await api.post("/api/nodes", json=body)).status_code == 201
    second = (await api.get("/api/nodes/n1/metadata")).json()
    assert second["document"]["values"]["peers"] == ["db1"]
    assert second["generation"] == first["generation"] + 1
    assert second["document"]["values"]["secret"] == first["document"]["values"]["secret"]
