"""Importing files of machines again and again: enrolled once, updated where they differ, never mixed up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.bmc.base import BootDevice
from baremetal.errors import UsageError
from baremetal.workflows import bootvia


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


def entry(name: str = "n1", **more: Any) -> dict[str, Any]:
    doc = {"name": name, "bmc_url": "ipmi://10.0.0.1", "username": "admin", "password": "pw", "manage": False}
    return doc | {"macs": ["52:54:00:00:00:01"]} | more


async def put(api: httpx.AsyncClient, *entries: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    answer = await api.post("/api/nodes/import", json={"nodes": list(entries), **more})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


async def test_twice_is_once(api: httpx.AsyncClient) -> None:
    assert [r["verdict"] for r in await put(api, entry())] == ["enroll"]
    assert [r["verdict"] for r in await put(api, entry(), entry())] == ["unchanged", "unchanged"]
    assert len((await api.get("/api/nodes")).json()["nodes"]) == 1


CHANGES = [
    ({"name": "renamed"}, ["name"]),
    ({"password": "another"}, ["password"]),
    ({"macs": ["52:54:00:00:00:02"]}, ["macs"]),
    ({"bmc_url": "ipmi://10.0.0.9"}, ["bmc_url", "username"]),
    ({"labels": {"rack": "r1"}}, ["labels"]),
    ({"properties": {"cpus": 8}}, ["properties"]),
    ({"resource_class": "large"}, ["resource_class"]),
]


@pytest.mark.parametrize(("changed", "fields"), CHANGES)
async def test_what_differs_is_updated(api: httpx.AsyncClient, changed: dict[str, Any], fields: list[str]) -> None:
    await put(api, entry())
    dry = await put(api, entry(**changed), dry_run=True)
    assert (dry[0]["verdict"], dry[0]["changes"]) == ("update", fields)
    result = (await put(api, entry(**changed)))[0]
    assert (result["verdict"], result["changes"]) == ("update", fields)
    assert [r["verdict"] for r in await put(api, entry(**changed))] == ["unchanged"]
    assert len((await api.get("/api/nodes")).json()["nodes"]) == 1


async def test_a_dry_run_writes_nothing(api: httpx.AsyncClient) -> None:
    assert [r["verdict"] for r in await put(api, entry(), dry_run=True)] == ["enroll"]
    assert (await api.get("/api/nodes")).json()["nodes"] == []


async def test_one_name_for_two_machines_is_refused(api: httpx.AsyncClient) -> None:
    await put(api, entry())
    other = entry(bmc_url="ipmi://10.0.0.2", macs=["52:54:00:00:00:09"])
    result = (await put(api, other))[0]
    assert not result["ok"]
    assert "another BMC" in result["error"]["brief"]


async def test_an_entry_that_means_two_nodes_is_refused_and_the_next_goes_on(api: httpx.AsyncClient) -> None:
    await put(api, entry(), entry("n2", bmc_url="ipmi://10.0.0.2", macs=["52:54:00:00:00:02"]))
    mixed = entry("n3", bmc_url="ipmi://10.0.0.1", macs=["52:54:00:00:00:02"])
    results = await put(api, mixed, entry("n4", bmc_url="ipmi://10.0.0.4", macs=["52:54:00:00:00:04"]))
    assert [r["ok"] for r in results] == [False, True]
    assert "2 different nodes" in results[0]["error"]["brief"]


async def test_a_nic_keeps_what_the_file_says_of_it(api: httpx.AsyncClient) -> None:
    port = {"address": "52:54:00:00:00:01", "physical_network": "left", "local_link_connection": {"port_id": "7"}}
    await put(api, entry(ports=[port]))
    found = (await api.get("/api/nodes/n1/ports")).json()["ports"]
    assert found[0]["physical_network"] == "left"


async def test_a_bmc_that_did_not_answer_is_asked_again(bench: Any, api: httpx.AsyncClient) -> None:
    box = bench.rack.add("n1")
    box.bmc.faults.add("silent")
    body = bench.rack.body("n1")
    bench.con.world.policy = bench.con.world.policy.__class__(verify_patience_s=0.0, bmc_pause_s=0.01)
    await put(api, body)
    await bench.when("n1", lambda n: n.wanted is None and n.fault is not None)
    box.bmc.faults.clear()
    assert [r["verdict"] for r in await put(api, body)] == ["ask-again"]
    await bench.until("n1", "manageable")


WAYS = [({}, bootvia.Via.PXE), ({"boot_via": "http"}, bootvia.Via.HTTP), ({"boot_via": "media"}, bootvia.Via.MEDIA)]


@pytest.mark.parametrize(("properties", "via"), WAYS)
def test_ways_to_boot(properties: dict[str, str], via: bootvia.Via) -> None:
    assert bootvia.via_of(properties) is via


def test_an_unknown_way_is_named() -> None:
    with pytest.raises(UsageError, match="floppy"):
        bootvia.via_of({"boot_via": "floppy"})


class Hands:
    """A pass that notes what it is asked to do."""

    def __init__(self, via: str, plan: Any = None) -> None:
        from types import SimpleNamespace

        self.done: list[Any] = []
        self.node = SimpleNamespace(name="n1", arch="x86_64", properties={"boot_via": via})
        self.site = SimpleNamespace(http_url="http://192.0.2.1:8080")
        self.plan = plan

    def own(self) -> None:
        """It is ours."""

    touch = store_first = own

    def driver(self) -> Hands:
        return self

    async def optional(self, op: str, *args: Any, **_: Any) -> Any:
        self.done.append((op, *args))
        return self.plan

    async def _ask(self, _: str, ask: Any) -> Any:
        return await ask(self)

    async def boot_from(self, device: BootDevice, *, once: bool) -> None:
        self.done.append((str(device), once))


async def test_a_virtual_cd_goes_in_before_it_is_booted() -> None:
    hands: Any = Hands("media")
    await bootvia.next_boot(hands)
    await bootvia.tidy(hands)
    cd = ("insert_media", "http://192.0.2.1:8080/loaders/ipxe.iso")
    assert hands.done == [cd, ("cdrom", True), ("eject_media",)]


async def test_http_boot_is_believed_only_when_it_reads_back() -> None:
    from baremetal.bmc.base import BmcLied, BootPlan

    url = "http://192.0.2.1:8080/loaders/snponly.efi"
    good: Any = Hands("http", BootPlan(BootDevice.HTTP, url=url))
    assert url in await bootvia.next_boot(good)
    bad: Any = Hands("http", BootPlan(BootDevice.PXE))
    with pytest.raises(BmcLied, match="http"):
        await bootvia.next_boot(bad)


async def test_one_machine_under_two_names_is_told(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    twin = bench.rack.body("n1") | {"name": "n2", "macs": ["52:54:00:00:00:77"]}
    twin["bmc_url"] += "?latency_s=0"
    answer = await api.post("/api/nodes", json=twin)
    assert answer.status_code == 201, answer.text
    node = await bench.when("n2", lambda n: n.wanted is None and n.fault is not None)
    assert node.fault.code == "bmc-duplicate"
    assert "n1" in node.fault.brief


async def test_one_bmc_is_of_one_node(api: httpx.AsyncClient) -> None:
    await put(api, entry())
    other = {"name": "n2", "bmc_url": "ipmi://root@10.0.0.1", "manage": False}
    refused = await api.post("/api/nodes", json=other)
    assert (refused.status_code, refused.json()["error"]["brief"]) == (409, "n1 has this BMC already")
    assert (await api.post("/api/nodes", json=other | {"bmc_url": "ipmi://10.0.0.10"})).status_code == 201
    moved = await api.patch("/api/nodes/n2", json={"bmc_url": "ipmi://10.0.0.1"})
    assert moved.status_code == 409
    assert (await api.patch("/api/nodes/n1", json={"bmc_url": "ipmi://admin@10.0.0.1?cipher=3"})).status_code == 200
    for number in (1, 2):
        blade = {"name": f"b{number}", "bmc_url": f"redfish+https://10.0.0.9?system={number}", "manage": False}
        assert (await api.post("/api/nodes", json=blade)).status_code == 201
