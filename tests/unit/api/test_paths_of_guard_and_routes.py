"""The guard and the routes read the same path: nobody gets beyond what the guard saw. Over a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from baremetal.api.app import create_app, parties_in
from baremetal.api.auth import Accounts, Guard
from baremetal.secrets import Secret
from baremetal.serve.asgi import AsgiServer
from baremetal.serve.listen import bind
from baremetal.store import secrets

ACCOUNTS = [("tenant", "operator", "p1"), ("eye", "observer", None), ("op", "operator", None), ("root", "admin", None)]
RUNBOOK = b'{"name": "CUSTOM_X", "steps": [{"interface": "clean", "step": "erase_devices", "args": {}, "order": 1}]}'
Ask = Callable[..., Awaitable[tuple[int, bytes]]]


@pytest.fixture
async def ask(bench: Any, tmp_path: Path) -> AsyncIterator[Ask]:
    """`await ask("tenant", "GET", "/v1/nodes")`: status and body, the request line exactly as given."""
    for name, owner in (("mine", "p1"), ("theirs", "p2")):
        await bench.enroll(name, labels={"owner": owner})
        await bench.until(name, "manageable")
    entries = [
        {"name": name, "role": role, "project": project, "sha256": hashlib.sha256(name.encode()).hexdigest()}
        for name, role, project in ACCOUNTS
    ]
    (tmp_path / "api-tokens.json").write_text(json.dumps(entries))
    server = AsgiServer(Guard(create_app(bench.con), Accounts(tmp_path), parties_in(bench.con)))
    sock = bind("127.0.0.1", 0)
    await server.start(sock)

    async def one(who: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who}\r\nConnection: close\r\n"
        head += f"X-OpenStack-Ironic-API-Version: 1.110\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        raw = await reader.read()
        writer.close()
        return int(raw.split(b" ", 2)[1]), raw.partition(b"\r\n\r\n")[2]

    yield one
    await server.close()


CLOSED = [  # what an account of project p1 may not reach, however it is spelt
    ("GET", "/v1/runbooks", b""),
    ("GET", "/v1%2Fnodes%2Fmine/runbooks", b""),
    ("POST", "/v1%2Fnodes%2Fmine/runbooks", RUNBOOK),
    ("POST", "/v1%2Fnodes%2Fmine/deploy_templates", RUNBOOK),
    ("GET", "/v1%2Fnodes%2Fmine/nodes/theirs", b""),
    ("GET", "/v1%2Fnodes%2Fmine/lookup?addresses={mac}", b""),
    ("GET", "/%76%31%2Fnodes%2Fmine/conductors", b""),
    ("GET", "/v1/nodes%2Fmine/../theirs", b""),
    ("GET", "/v1/nodes/mine/../theirs", b""),
    ("GET", "/v1/nodes/mine%2F..%2Ftheirs", b""),
    ("PUT", "/v1/nodes/theirs/maintenance", b"{}"),
    ("PUT", "/v1/nodes/theirs/maintenance?x=/nodes/mine", b"{}"),
    ("GET", "/api/nodes/mine%2F..%2Ftheirs", b""),
    ("GET", "/api/nodes/mine%252F..%252Ftheirs", b""),
    ("GET", "//api/nodes/theirs", b""),
    ("GET", "http://x/v1/nodes/theirs", b""),
    ("GET", "/api/db/check", b""),
    ("GET", "/%61pi/db/check", b""),
    ("GET", "/metrics", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), CLOSED)
async def test_no_spelling_opens_what_is_closed(bench: Any, ask: Ask, method: str, path: str, body: bytes) -> None:
    status, said = await ask("tenant", method, path.replace("{mac}", bench.rack.boxes["theirs"].mac), body)
    assert status in (400, 403, 404), said


async def test_what_is_open_stays_open(ask: Ask) -> None:
    for path in ("/v1/nodes/mine", "/v1/nodes", "/api/nodes/mine", "http://x/v1/nodes/mine", "/v1/"):
        assert (await ask("tenant", "GET", path))[0] == 200, path


async def test_a_path_is_not_cut_at_a_letter_that_is_no_ascii(ask: Ask) -> None:
    """`/v1/nodes/mine/maintenanceΩ/power` ends for the guard with /power: for the routes it must not end before."""
    for path in ("/v1/nodes/mine/maintenanceΩ/power", "http://x/v1/nodes/mine/maintenanceΩ/power"):
        assert (await ask("tenant", "PUT", path, b"{}"))[0] in (400, 404), path


async def test_who_only_looks_is_given_no_agents_token(bench: Any, ask: Ask) -> None:
    assert (await ask("eye", "GET", f"/v1/lookup?addresses={bench.rack.boxes['mine'].mac}"))[0] == 403


async def test_a_config_drive_is_not_shown_and_survives_a_patch_beside_it(bench: Any, ask: Ask) -> None:
    add = b'[{"op": "add", "path": "/instance_info/%s", "value": %s}]'
    for name, value in ((b"configdrive", b'{"user_data": "s3cr3t"}'), (b"note", b'"x"')):
        status, said = await ask("op", "PATCH", "/v1/nodes/mine", add % (name, value))
        assert (status, b"s3cr3t" in said) == (200, False)
    for who in ("eye", "op"):
        for path in ("/v1/nodes/mine", "/v1/nodes/detail", "/v1/nodes?fields=instance_info", "/api/nodes/mine"):
            status, said = await ask(who, "GET", path)
            assert (status, b"s3cr3t" in said) == (200, False), path
    kept = bench.node("mine").extra["ironic"]["instance_info"]
    assert kept == {"configdrive": {"user_data": "s3cr3t"}, "note": "x"}


MOVES = [  # who, API, its change, status
    ("op", "/api/nodes/mine", b'{"bmc_url": "ipmi://admin@10.6.6.6"}', 409),
    ("op", "/api/nodes/mine", b'{"bmc_url": "ipmi://admin@10.6.6.6", "password": "new"}', 200),
    ("op", "/api/nodes/mine", b'{"bmc_url": "redfish+http://admin@10.0.0.1"}', 409),
    ("op", "/api/nodes/mine", b'{"bmc_url": "ipmi://root@10.0.0.1?cipher=17"}', 200),
    ("tenant", "/api/nodes/mine", b'{"bmc_url": "redfish+https://admin@10.6.6.6"}', 409),
    ("root", "/api/nodes/mine", b'{"bmc_url": "ipmi://admin@10.6.6.6"}', 200),
    (
        "op",
        "/v1/nodes/mine",
        b'[{"op": "add", "path": "/driver", "value": "redfish"}, '
        b'{"op": "add", "path": "/driver_info", "value": {"redfish_address": "http://10.6.6.6"}}]',
        409,
    ),
]


@pytest.mark.parametrize(("who", "path", "body", "status"), MOVES)
async def test_a_password_is_not_sent_where_it_was_not_given_for(
    bench: Any, ask: Ask, who: str, path: str, body: bytes, status: int
) -> None:
    node, con = bench.node("mine"), bench.con

    def keep(conn: Any) -> None:
        secrets.put(conn, con.world.operator, node.id, secrets.BMC_PASSWORD, Secret("pw"), 1.0)

    await con.write(keep)
    assert (await ask("root", "PATCH", "/api/nodes/mine", b'{"bmc_url": "ipmi://admin@10.0.0.1"}'))[0] == 200
    got, said = await ask(who, "PATCH", path, body)
    assert got == status, said


async def test_an_address_that_is_none_is_refused_and_breaks_no_list(ask: Ask) -> None:
    change = b'[{"op": "add", "path": "/driver", "value": "ipmi"}, '
    change += b'{"op": "add", "path": "/driver_info", "value": {"ipmi_address": "a b;c"}}]'
    assert (await ask("op", "PATCH", "/v1/nodes/mine", change))[0] == 400
    assert (await ask("op", "GET", "/v1/nodes"))[0] == 200


REACHES = [  # what an account of a project asks of its own node to get at what is the site's
    ("PUT", "/api/nodes/mine/metadata", b'{"values": {"a": {"$secret": "ldap"}}}', 403),
    ("PUT", "/api/nodes/mine/metadata", b'{"values": {"a": [{"b": {"$generate": "password"}}]}}', 403),
    ("PUT", "/api/nodes/mine/metadata", b'{"values": {"a": {"$nodes": "owner=p2", "give": "hosts"}}}', 403),
    ("PUT", "/api/nodes/mine/metadata", b'{"values": {"a": 1}}', 200),
    ("PUT", "/api/nodes/mine/verbs/deploy", b'{"image": "web", "metadata": {"a": {"$secret": "ldap"}}}', 403),
    ("PATCH", "/api/nodes/mine", b'{"labels": {"owner": "p1", "role": "controller"}}', 403),
    ("PATCH", "/api/nodes/mine", b'{"labels": {"owner": "p1", "rack": "r1"}}', 200),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), REACHES)
async def test_a_project_reaches_no_secret_of_the_site_through_its_node(
    ask: Ask, method: str, path: str, body: bytes, status: int
) -> None:
    got, said = await ask("tenant", method, path, body)
    assert got == status, said


LEASED = [  # what an account of project p1 may ask of a node that it only leases
    ("GET", "/v1/nodes/leased", b"", 200),
    ("PUT", "/v1/nodes/leased/states/power", b'{"target": "power on"}', 202),
    ("PUT", "/v1/nodes/leased/states/provision", b'{"target": "provide"}', 403),
    ("PUT", "/v1/nodes/leased/states/provision", b'{"target": "clean", "clean_steps": []}', 403),
    ("PUT", "/v1/nodes/leased/states/provision", b'{"target": "rescue", "rescue_password": "12345678"}', 403),
    ("PUT", "/v1/nodes/leased/states/provision", b'{"target": "active"}', 400),
    ("PUT", "/v1/nodes/leased/maintenance", b"{}", 403),
    ("PUT", "/v1/nodes/leased/traits/CUSTOM_power", b"{}", 403),
    ("DELETE", "/v1/nodes/leased/traits/power", b"", 403),
    ("POST", "/v1/ports", b'{"node_uuid": "leased", "address": "52:54:00:99:99:99"}', 400),
    ("PATCH", "/v1/ports/{mac}", b'[{"op": "replace", "path": "/address", "value": "52:54:00:99:99:99"}]', 403),
    ("DELETE", "/v1/ports/{mac}", b"", 403),
    ("PATCH", "/api/nodes/leased", b'{"labels": {}}', 403),
    ("PUT", "/api/nodes/leased/metadata", b'{"values": {"a": 1}}', 403),
    ("PUT", "/api/nodes/leased/bmc/password", b'{"password": "12345678"}', 403),
    ("GET", "/api/nodes/leased/bmc/users", b"", 403),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), LEASED)
async def test_who_leases_a_node_uses_it_and_no_more(
    bench: Any, ask: Ask, method: str, path: str, body: bytes, status: int
) -> None:
    await bench.enroll("leased", labels={"owner": "p2", "lessee": "p1"})
    await bench.until("leased", "manageable")
    got, said = await ask("tenant", method, path.replace("{mac}", bench.rack.boxes["leased"].mac), body)
    assert got == status, said


@pytest.mark.parametrize(
    "step", [{"priority": "x"}, {"priority": [1]}, {"priority": True}, {"args": ["a"]}, {"args": 5}]
)
async def test_a_step_that_is_none_is_refused(ask: Ask, step: dict[str, Any]) -> None:
    body = {"steps": [{"interface": "clean", "step": "erase_devices", **step}]}
    assert (await ask("op", "PUT", "/api/nodes/mine/verbs/clean", json.dumps(body).encode()))[0] == 400
