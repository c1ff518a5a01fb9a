"""Ironic's API over our model: versions, errors, patches, verbs, masks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.api.ironic import drivers, fields, jsonpatch
from baremetal.api.ironic.version import Refusal
from baremetal.secrets import Secret
from baremetal.store import secrets

VERSION = {"X-OpenStack-Ironic-API-Version": "1.89"}


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://ironic:6385", headers=VERSION) as client:
        yield client


def fault(answer: httpx.Response) -> str:
    """The text inside the JSON inside the JSON."""
    text: str = json.loads(answer.json()["error_message"])["faultstring"]
    return text


async def test_versions_are_negotiated_and_said_on_every_answer(api: httpx.AsyncClient) -> None:
    for path in ("/", "/v1/", "/v1/nodes", "/v1/nodes/nobody", "/v1/nonsense"):
        headers = (await api.get(path)).headers
        assert headers["x-openstack-ironic-api-maximum-version"] == "1.110", path
    too_new = await api.get("/v1/nodes", headers={"X-OpenStack-Ironic-API-Version": "1.115"})
    assert (too_new.status_code, "1.1 to 1.110" in fault(too_new)) == (406, True)
    by_service = await api.get("/v1/nodes", headers={"X-OpenStack-Ironic-API-Version": "latest"})
    assert by_service.headers["x-openstack-ironic-api-version"] == "1.110"
    old = (await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "n1"})).json()
    assert "owner" in old
    old = (await api.get("/v1/nodes/n1", headers={"X-OpenStack-Ironic-API-Version": "1.6"})).json()
    assert ("name" in old, "owner" in old, "traits" in old) == (True, False, False)


async def test_an_ipmi_node_becomes_ours_and_its_password_is_sealed(bench: Any, api: httpx.AsyncClient) -> None:
    info = {"ipmi_address": "10.0.0.9", "ipmi_username": "admin", "ipmi_password": "s3cret", "ipmi_cipher_suite": 3}
    made = await api.post("/v1/nodes", json={"driver": "ipmi", "name": "n1", "driver_info": info})
    assert made.status_code == 201
    assert "s3cret" not in made.text
    node = bench.node("n1")
    assert node.bmc_url == "ipmi://admin@10.0.0.9?cipher=3"
    key = (node.id, secrets.BMC_PASSWORD)
    assert bench.store.read(lambda c: secrets.get(c, bench.con.world.operator, *key)) == Secret("s3cret")
    change = [{"op": "replace", "path": "/driver_info/ipmi_address", "value": "10.0.0.10"}]
    assert (await api.patch("/v1/nodes/n1", json=change)).status_code == 200
    assert bench.node("n1").bmc_url == "ipmi://admin@10.0.0.10?cipher=3"
    assert bench.store.read(lambda c: secrets.get(c, bench.con.world.operator, *key)) == Secret("s3cret")


async def test_a_deploy_as_ironics_clients_ask_for_it(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    info = [{"op": "add", "path": "/instance_info/image_source", "value": "web"}]
    assert (await api.patch("/v1/nodes/n1", json=info)).status_code == 200
    asked = await api.put("/v1/nodes/n1/states/provision", json={"target": "active", "configdrive": {"meta_data": {}}})
    assert (asked.status_code, asked.content) == (202, b"")
    shown = (await api.get("/v1/nodes/n1")).json()
    assert shown["provision_state"] in ("deploying", "wait call-back", "active"), "never seen as still available"
    await bench.until("n1", "active")
    shown = (await api.get("/v1/nodes/n1")).json()
    assert (shown["provision_state"], shown["power_state"], shown["last_error"]) == ("active", "power on", None)
    again = await api.put("/v1/nodes/n1/states/provision", json={"target": "provide"})
    assert (again.status_code, 'in state "active"' in fault(again)) == (400, True)
    assert (await api.delete("/v1/nodes/n1")).status_code == 409


async def test_a_busy_node_is_409_and_a_failed_one_has_its_error(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    bench.rack.boxes["n1"].faults.add("no-hello")
    await api.put("/v1/nodes/n1/states/provision", json={"target": "inspect"})
    await bench.when("n1", lambda n: n.wait is not None)
    assert (await api.get("/v1/nodes/n1/states")).json()["provision_state"] == "inspect wait"
    busy = await api.put("/v1/nodes/n1/states/provision", json={"target": "provide"})
    assert busy.status_code == 409
    assert (await api.put("/v1/nodes/n1/states/provision", json={"target": "abort"})).status_code == 202
    await bench.until("n1", "manageable")
    doc = (await api.get("/v1/nodes/n1")).json()
    assert doc["provision_state"] == "inspect failed"
    assert "aborted" in doc["last_error"]


async def test_lists_page_by_marker_and_filter(bench: Any, api: httpx.AsyncClient) -> None:
    for i in range(5):
        await api.post("/v1/nodes", json={"driver": "fake-hardware", "resource_class": f"c{i % 2}"})
    seen: list[str] = []
    url = "/v1/nodes?limit=2&fields=uuid,name"
    while url:
        page = (await api.get(url)).json()
        seen += [n["uuid"] for n in page["nodes"]]
        assert all(set(n) == {"uuid", "name", "links"} for n in page["nodes"])
        url = page.get("next", "").replace("http://ironic:6385", "")
    assert len(set(seen)) == 5
    odd = (await api.get("/v1/nodes?resource_class=c1")).json()["nodes"]
    assert len(odd) == 2
    assert (await api.get("/v1/nodes?fields=colour")).status_code == 400
    assert (await api.get("/v1/nodes?marker=nobody")).status_code == 400


async def test_ports_by_address_and_their_node(bench: Any, api: httpx.AsyncClient) -> None:
    node = (await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "n1"})).json()
    body = {"node_uuid": node["uuid"], "address": "52:54:00:AA:00:01"}
    port = await api.post("/v1/ports", json=body)
    assert (port.status_code, port.json()["address"]) == (201, "52:54:00:aa:00:01")
    assert (await api.post("/v1/ports", json=body)).status_code == 409
    found = (await api.get("/v1/ports/detail?address=52:54:00:aa:00:01")).json()["ports"]
    assert [p["node_uuid"] for p in found] == [node["uuid"]]
    assert (await api.delete(f"/v1/ports/{port.json()['uuid']}")).status_code == 204
    assert (await api.get("/v1/nodes/n1/ports")).json() == {"ports": []}


BAD = [  # method, path, body, status
    ("POST", "/v1/nodes", {}, 400),
    ("POST", "/v1/nodes", {"driver": "teleport"}, 400),
    ("POST", "/v1/nodes", {"driver": "ipmi", "colour": 1}, 400),
    ("POST", "/v1/nodes", [1], 400),
    ("PATCH", "/v1/nodes/n1", {"op": "add"}, 400),
    ("PATCH", "/v1/nodes/n1", [{"op": "add", "path": "/uuid", "value": "x"}], 400),
    ("PATCH", "/v1/nodes/n1", [{"op": "remove", "path": "/extra/none"}], 400),
    ("PATCH", "/v1/nodes/n1", [{"op": "dance", "path": "/extra/a"}], 400),
    ("PUT", "/v1/nodes/n1/states/provision", {"target": "dance"}, 400),
    ("PUT", "/v1/nodes/n1/states/power", {"target": "sideways"}, 400),
    ("PUT", "/v1/nodes/nobody/states/power", {"target": "power on"}, 404),
    ("POST", "/v1/ports", {"address": "x"}, 400),
    ("GET", "/v1/ports/none", None, 404),
    ("GET", "/v1/allocations/none", None, 404),
    ("GET", "/v1/drivers/none", None, 404),
    ("GET", "/v1/whatever", None, 404),
]


async def test_bad_requests_are_ironics_4xx(api: httpx.AsyncClient) -> None:
    await api.post("/v1/nodes", json={"driver": "fake-hardware", "name": "n1"})
    for method, path, body, status in BAD:
        answer = await api.request(method, path, json=body)
        assert (answer.status_code, bool(fault(answer))) == (status, True), (path, answer.text)


async def test_an_allocation_says_why_there_is_no_node(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    bad = (await api.post("/v1/allocations", json={"resource_class": "gpu"})).json()
    assert (bad["state"], "not 'gpu'" in bad["last_error"]) == ("error", True)
    good = (await api.post("/v1/allocations", json={"resource_class": "baremetal", "name": "a"})).json()
    assert (await api.get("/v1/nodes/n1")).json()["instance_uuid"] == good["uuid"]
    assert (await api.delete("/v1/allocations/a")).status_code == 204
    assert (await api.get("/v1/nodes/n1")).json()["instance_uuid"] is None


async def test_undeploy_ends_the_allocation_and_forgets_the_instance(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    await api.post("/v1/allocations", json={"resource_class": "baremetal", "name": "a"})
    info = [{"op": "add", "path": "/instance_info/image_source", "value": "web"}]
    await api.patch("/v1/nodes/n1", json=info)
    await api.put("/v1/nodes/n1/states/provision", json={"target": "active"})
    await bench.until("n1", "active")
    assert (await api.delete("/v1/allocations/a")).status_code == 409
    await api.put("/v1/nodes/n1/states/provision", json={"target": "deleted"})
    await bench.until("n1", "available")
    doc = (await api.get("/v1/nodes/n1")).json()
    assert (doc["instance_uuid"], doc["instance_info"], doc["allocation_uuid"]) == (None, {}, None)
    assert (await api.get("/v1/allocations/a")).status_code == 404


DRIVERS = [  # driver, driver_info, our URL
    ("ipmi", {"ipmi_address": "10.0.0.1"}, "ipmi://10.0.0.1"),
    ("ipmi", {"ipmi_address": "fd00::1", "ipmi_port": 6230, "ipmi_username": "a b"}, "ipmi://a%20b@[fd00::1]:6230"),
    ("ipmi", {"ipmi_address": "b", "ipmi_priv_level": "OPERATOR"}, "ipmi://b?privilege=operator"),
    (
        "redfish",
        {"redfish_address": "https://b", "redfish_system_id": "/redfish/v1/Systems/1", "redfish_username": "r"},
        "redfish+https://r@b/redfish/v1/Systems/1",
    ),
    ("redfish", {"redfish_address": "http://b:8000"}, "redfish+http://b:8000"),
    ("ipmi", {}, ""),
]


@pytest.mark.parametrize(("driver", "info", "url"), DRIVERS)
def test_driver_info_is_a_bmc_url(driver: str, info: dict[str, Any], url: str) -> None:
    assert drivers.bmc_of(driver, info, "id")[0] == url
    if url:
        assert drivers.info_of(url)[0] == driver


def test_patches_reach_nested_members() -> None:
    doc = {"extra": {"a": 1}, "name": "x", "instance_info": None}
    steps = [
        {"op": "add", "path": "/extra/b", "value": [2]},
        {"op": "add", "path": "/extra/b/-", "value": 3},
        {"op": "remove", "path": "/extra/a"},
        {"op": "add", "path": "/instance_info/deep", "value": 3},
        {"op": "remove", "path": "/name"},
    ]
    assert jsonpatch.apply(doc, steps) == {"extra": {"b": [2, 3]}, "name": None, "instance_info": {"deep": 3}}
    assert doc == {"extra": {"a": 1}, "name": "x", "instance_info": None}
    for wrong in ("/name/first", "/extra/no/deeper"):
        with pytest.raises(Refusal):
            jsonpatch.apply(doc, [{"op": "replace", "path": wrong, "value": 1}])


def test_a_ports_uuid_holds_its_mac() -> None:
    assert fields.mac_of(fields.port_uuid("52:54:00:aa:bb:cc")) == "52:54:00:aa:bb:cc"
    assert fields.mac_of("52:54:00:AA:BB:CC") == "52:54:00:aa:bb:cc"
    assert fields.mac_of("nonsense") is None
