"""What is no request gets a clear 4xx: never a traceback, never a 500, and the server goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baremetal.api.app import create_app
from baremetal.api.http import BadRequest, Routes, parse_json
from baremetal.api.ironic.common import routes
from baremetal.serve import asgi
from baremetal.serve.asgi import AsgiServer
from baremetal.serve.listen import bind

V = {"X-OpenStack-Ironic-API-Version": "1.110"}
DEEP = b'{"extra":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control", headers=V) as client:
        made = await client.post("/v1/nodes", json={"driver": "fake-hardware", "name": "n1"})
        assert made.status_code == 201
        yield client


BODIES = [  # method, path, body, status
    ("POST", "/v1/nodes", DEEP, 400),
    ("POST", "/api/nodes", DEEP, 400),
    ("PATCH", "/v1/nodes/n1", b"[" * 5000, 400),
    ("POST", "/v1/nodes", b'{"driver": "fake-hardware", "extra": NaN}', 400),
    ("POST", "/v1/nodes", b'{"driver": "fake-hardware", "extra": {"a": 1e999}}', 400),
    ("PATCH", "/api/nodes/n1", b'{"properties": {"a": -1e999}}', 400),
    ("PATCH", "/api/nodes/n1", b'{"properties": {"a": "\\ud800"}}', 400),
    ("PUT", "/api/metadata/site", b'{"values": {"a": "\xed\xa0\x80"}}', 400),
    ("POST", "/v1/nodes", b'{"driver": "\xff"}', 400),
    ("POST", "/v1/nodes", b"\x00", 400),
    ("POST", "/v1/nodes", b"null", 400),
    ("POST", "/v1/nodes", b'"text"', 400),
    ("POST", "/v1/nodes", b'{"driver": null}', 400),
    ("POST", "/v1/nodes", b'{"driver": {"a": 1}}', 400),
    ("POST", "/v1/nodes", b'{"driver": "fake-hardware", "name": "../etc"}', 400),
    ("POST", "/v1/nodes", b'{"driver": "ipmi", "driver_info": {"ipmi_address": "a b;c"}}', 400),
    ("PUT", "/v1/nodes/n1/states/provision", b'{"target": 5}', 400),
    ("PUT", "/v1/nodes/n1/states/provision", b'{"target": "active", "configdrive": {"files": []}}', 400),
    ("PUT", "/v1/nodes/n1/states/power", b'{"target": ["power on"]}', 400),
    ("PUT", "/v1/nodes/n1/traits", b'{"traits": "CUSTOM_A"}', 400),
    ("PUT", "/v1/nodes/n1/management/boot_device", b'{"boot_device": {}}', 400),
    ("PATCH", "/v1/nodes/n1", b'[{"op": "add", "path": "/extra/__class__/x", "value": 1}]', 400),
    ("PATCH", "/v1/nodes/n1", b'[{"op": "add", "path": "/driver_info/../name", "value": 1}]', 400),
    ("PATCH", "/v1/nodes/n1", b"[" + b'{"op":"add","path":"/extra/a","value":1},' * 500 + b'{"op":"add"}]', 400),
    ("PATCH", "/api/nodes/n1", b'{"labels": []}', 400),
    ("PATCH", "/api/nodes/n1", b'{"colour": 1}', 400),
    ("POST", "/api/bulk", b'{"verb": 5}', 400),
    ("POST", "/v1/ports", b'{"address": "52:54:00:00:00:01", "node_uuid": {}}', 400),
    ("POST", "/v1/allocations", b'{"resource_class": 7}', 400),
    ("POST", "/v1/deploy_templates", b'{"name": "CUSTOM_A", "steps": [1]}', 400),
    ("POST", "/v1/heartbeat/n1", b'{"callback_url": "https://a:1", "agent_token": 5}', 400),
    ("POST", "/v1/heartbeat/n1", b'{"callback_url": "https://a:1", "agent_token": "wrong"}', 400),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"), BODIES, ids=[f"{m}-{p}-{i}" for i, (m, p, *_) in enumerate(BODIES)]
)
async def test_bodies(api: httpx.AsyncClient, method: str, path: str, body: bytes, status: int) -> None:
    answer = await api.request(method, path, content=body)
    assert answer.status_code == status, answer.text
    assert "Traceback" not in answer.text
    assert 'File "' not in answer.text


PATHS = [
    "/v1/nodes/..%2f..%2fetc%2fpasswd",
    "/v1/nodes/%2e%2e",
    "/v1/nodes/n1/%2e%2e/n1",
    "/v1//nodes",
    "/v1/nodes/%00",
    "/v1/nodes/" + "a" * 3000,
    "/v1/nodes/n1/states/../../..",
    "/v1/nope",
    "/api/nope",
    "/api/nodes/..%2f..%2fetc%2fpasswd",
    "/api/images/..%2f..%2fetc%2fpasswd",
    "/api/nodes/n1/console?boot=../../../etc/passwd",
    "/v1/nodes?limit=99999999999999999999999",
    "/v1/nodes?limit=-0x1",
    "/v1/nodes?marker=%27%20or%201=1--",
    "/v1/nodes?fields=" + "uuid," * 500,
    "/v1/nodes?sort_key=id;drop",
    "/v1/ports?address=%00",
    "/v1/lookup?addresses=" + "x," * 500,
]


@pytest.mark.parametrize("path", PATHS)
async def test_paths_and_queries(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert answer.status_code in (200, 400, 404, 414), answer.text
    assert "root:" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("version", ["", "1", "1.", "1.1.1", "-1.5", "1.٣", "1e3", "9" * 40, "2.0", "1.0", "latest1"])
async def test_versions(api: httpx.AsyncClient, version: str) -> None:
    answer = await api.get("/v1/nodes", headers={"X-OpenStack-Ironic-API-Version": version.encode()})
    assert answer.status_code == 406
    assert answer.headers["x-openstack-ironic-api-maximum-version"] == "1.110"


async def test_concurrent_patches_are_all_kept_or_refused(api: httpx.AsyncClient, bench: Any) -> None:
    changes = [[{"op": "add", "path": f"/extra/k{i}", "value": i}] for i in range(40)]
    answers = await asyncio.gather(*(api.patch("/v1/nodes/n1", json=change) for change in changes))
    kept = {i for i, answer in enumerate(answers) if answer.status_code == 200}
    assert {a.status_code for a in answers} <= {200, 409}
    assert (await api.get("/v1/nodes/n1")).json()["extra"] == {f"k{i}": i for i in kept}
    fence = bench.node("n1").fence
    stale = await api.patch("/api/nodes/n1", json={"labels": {"a": "b"}}, headers={"If-Match": str(fence - 1)})
    assert stale.status_code == 412


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["driver", "name", "uuid", "driver_info", "properties", "extra", "target", "traits", "address", "node_uuid"]
MEMBERS += ["resource_class", "steps", "callback_url", "agent_token", "configdrive", "reason", "boot_device", "id"]


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_body_on_any_route_is_answered(fuzzed: Any, data: st.DataObject) -> None:
    """Every route of /v1 with any JSON: an answer below 500 (501, 502: the BMC says so)."""
    method, pattern = data.draw(st.sampled_from(routes.patterns()))
    path = "/v1" + "/".join(
        data.draw(st.sampled_from(["n1", "nope", "x y"])) if p == "{}" else p for p in pattern.split("/")
    )
    body = data.draw(
        st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=4) | st.lists(json_values, max_size=3)
    )
    status = fuzzed(method, path, json.dumps(body).encode())
    assert status < 500 or status in (501, 502), (method, path, body, status)


@pytest.fixture
def fuzzed(bench: Any) -> Any:
    """Ask the application from outside its loop's test."""
    loop = asyncio.new_event_loop()
    app = create_app(bench.con)

    async def ask(method: str, path: str, body: bytes) -> int:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://control", headers=V) as client:
            return (await client.request(method, path, content=body)).status_code

    yield lambda *words: loop.run_until_complete(ask(*words))
    loop.close()


@given(st.binary(max_size=300))
def test_any_bytes_are_json_or_a_bad_request(raw: bytes) -> None:
    with contextlib.suppress(BadRequest):
        parse_json(raw)


def test_a_literal_segment_wins_over_a_name() -> None:
    table: Routes[str] = Routes()
    for pattern in ("/nodes/{}", "/nodes/detail", "/nodes/{}/states"):
        table.add("GET", pattern, pattern)
    found = [table.find(p.split("/")) for p in ("nodes/detail", "nodes/x", "nodes/detail/states", "nodes", "a/b/c/d")]
    assert [f and f[0]["GET"] for f in found] == ["/nodes/detail", "/nodes/{}", "/nodes/{}/states", None, None]


# -- on a socket ----------------------------------------------------------------------


@pytest.fixture
async def port(bench: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(asgi, "BODY_S", 0.3)
    monkeypatch.setattr(asgi, "SWEEP_S", 0.1)
    sock = bind("127.0.0.1", 0)
    server = AsgiServer(create_app(bench.con))
    await server.start(sock)
    yield sock.getsockname()[1]
    await server.close()


async def said(port: int, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    try:
        return await asyncio.wait_for(reader.read(4096), 90)
    finally:
        writer.close()


RAW = [
    (b"GARBAGE\r\n\r\n", b"400"),
    (b"GET /v1 HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"400"),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
    (b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
    (b"POST /api/nodes HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
    (b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
    (b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"400"),
    (b"GET /v1 HTTP/1.1\r\nHost: a<script>\r\n\r\n", b"400"),
    (b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{", b"408"),
]


@pytest.mark.parametrize(("raw", "status"), RAW, ids=[r[:30].decode() + s.decode() for r, s in RAW])
async def test_what_is_not_http_is_told_so(port: int, raw: bytes, status: bytes) -> None:
    assert status in (await said(port, raw)).split(b"\r\n", 1)[0]


async def test_a_client_that_says_nothing_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "FIRST_REQUEST_S", 0.6)
    assert await said(port, b"GET /v1 HT") == b""


async def test_a_thousand_idle_connections_do_not_delay_the_next(port: int) -> None:
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(1000)]
    try:
        assert b" 200 " in (await said(port, b"GET /v1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))[:20]
    finally:
        for sock in idle:
            sock.close()
