"""The agent's routes: tokens, held requests, reports kept while control is away, honest errors."""

import asyncio
import json
from collections import Counter

import pytest
from conftest_bootplane import NONCE_KEY, sha, until, view

from baremetal.bootplane import agentapi
from baremetal.protocol import nonce
from baremetal.protocol.metadata import SIGNATURE_HEADER

TOKEN = "ab" * 32
AUTH = {"Authorization": f"Bearer {TOKEN}"}
ORDER = {"id": "o1", "kind": "inspect", "args": {}}


async def get(rig, path, headers=AUTH):
    async with rig.session.get(rig.https + path, headers=headers) as answer:
        body = await answer.read()
        return answer, json.loads(body) if body else None


async def post(rig, path, body, headers=AUTH):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with rig.session.post(rig.https + path, data=data, headers=headers) as answer:
        return answer.status, await answer.json()


async def ready(rig, **more):
    rig.control.push(view(ramdisk_token_sha256=sha(TOKEN), **more))
    await until(lambda: rig.state.by_token(TOKEN))


async def test_script_carries_a_growing_nonce_that_control_can_check(rig):
    words = []
    for _ in range(2):
        async with rig.session.get(rig.http + "/boot/52-54-00-00-00-01.ipxe") as answer:
            text = await answer.text()
        assert text.startswith("#!ipxe")
        word = text.partition("baremetal.nonce=")[2].split()[0]
        assert nonce.verify(word, NONCE_KEY, "n1", "b1")
        words.append(nonce.serial_ms(word))
    assert words[1] > words[0]
    await until(lambda: sum(m.kind == "script-sent" for m in rig.control.seen) == 2)


async def test_hello_goes_to_control_and_its_refusal_comes_back(rig):
    hello = {"nonce": "n", "macs": ["52:54:00:00:00:01"]}
    assert await post(rig, "/hello", hello, {}) == (200, rig.control.answer)
    assert rig.control.calls[0][1]["source"] == "127.0.0.1"
    status, body = await post(rig, "/hello", {**hello, "nonce": "bad"}, {})
    assert status == 403
    assert body["error"]["fix"] == "boot again"


BAD = [  # body, status
    (b"", 400),
    (b"[]", 400),
    (b"{}", 400),
    (b"\xff\xfe", 400),
    (b"[" * 50_000, 400),
    (b"{" + b" " * 70_000 + b"}", 413),
]


@pytest.mark.parametrize(("body", "status"), BAD)
async def test_a_bad_hello_is_a_clear_4xx(rig, body, status):
    got, answer = await post(rig, "/hello", body, {})
    assert got == status
    assert answer["error"]["brief"]


HOSTILE = [  # what no report may bring: it is stored and shown, and must not stop what comes behind it
    b'{"order_id": {}, "outcome": "done"}',
    b'{"order_id": "o1", "outcome": "done", "fault": "text"}',
    b'{"order_id": "o1", "outcome": "progress", "data": {"done": NaN}}',
    b'{"order_id": "o1", "outcome": "progress", "data": {"done": 1e999}}',
    b'{"order_id": "o1", "outcome": "progress", "data": {"stage": "\\ud800"}}',
    b'{"order_id": "o1", "outcome": "progress", "data": {"stage": "\xed\xa0\x80"}}',
    b'{"order_id": "o1", "outcome": "done", "data": {"x": ' + b"[" * 100 + b"]" * 100 + b"}}",
    '{"order_id": "o1", "outcome": "done"}'.encode("utf-16"),
]


@pytest.mark.parametrize("body", HOSTILE)
async def test_a_report_that_cannot_be_stored_or_shown_is_refused(rig, body):
    await ready(rig)
    status, answer = await post(rig, "/report", body)
    assert status == 400
    assert answer["error"]["code"] == "bad-document"
    assert not [m for m in rig.control.seen if m.kind == "report"]


NOT_THEIRS = [  # field of the token, method, path: what a token of this kind has no business with
    ("instance_token_sha256", "GET", "/order"),
    ("instance_token_sha256", "POST", "/report"),
    ("ramdisk_token_sha256", "GET", "/metadata"),
    ("ramdisk_token_sha256", "POST", "/config-report"),
    ("ramdisk_token_sha256", "GET", f"/request/{TOKEN}"),
]


@pytest.mark.parametrize(("token", "method", "path"), NOT_THEIRS)
async def test_a_token_is_good_for_its_own_agent_only(rig, token, method, path):
    """A deployed system reports on no order; a ramdisk, whose nonce came in the clear, reads no metadata."""
    meta = {"generation": 1, "document": '{"values": {"a": 1}, "deployments": []}', "signature": "s"}
    rig.control.push(view(**{token: sha(TOKEN)}, metadata=meta, order=ORDER))
    await until(lambda: rig.state.by_token(TOKEN))
    body = b'{"order_id": "o1", "outcome": "done", "metadata_generation": 1}' if method == "POST" else None
    async with rig.session.request(method, rig.https + path, data=body, headers=AUTH) as answer:
        assert answer.status == 403, await answer.text()
    assert not [m for m in rig.control.seen if m.kind in ("report", "config-report")]


async def test_order_is_held_until_it_is_pushed(rig):
    await ready(rig)
    held = asyncio.create_task(get(rig, "/order?wait=30"))
    await until(lambda: len(rig.apps.wakeups) == 1)
    assert not held.done()
    rig.control.push(view(ramdisk_token_sha256=sha(TOKEN), order=ORDER))
    answer, body = await held
    assert (answer.status, body) == (200, ORDER)
    answer, _ = await get(rig, "/order?after=o1")
    assert answer.status == 204


async def test_token_that_dies_during_a_held_request_is_told_at_once(rig):
    await ready(rig)
    held = asyncio.create_task(get(rig, "/order?wait=30"))
    await until(lambda: len(rig.apps.wakeups) == 1)
    rig.control.push(view(ramdisk_token_sha256=sha("other")))
    answer, body = await held
    assert (answer.status, body["error"]["code"]) == (401, "dead-token")


async def test_wrong_tokens(rig):
    await ready(rig)
    for header in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic " + TOKEN}, {"Authorization": "Bearer"}):
        answer, body = await get(rig, "/order", header)
        assert answer.status == 401
        assert body["error"]["brief"]
    await until(lambda: any(m.kind == "refused" for m in rig.control.seen))


async def test_ramdisk_token_may_not_report_configuration(rig):
    await ready(rig)
    status, _ = await post(rig, "/config-report", {"metadata_generation": 1, "outcome": "applied"})
    assert status == 403


async def test_reports_arrive_in_order(rig):
    await ready(rig)
    for n in range(20):
        status, _ = await post(rig, "/report", {"order_id": "o1", "outcome": "progress", "data": {"done": n}})
        assert status == 200
    reports = lambda: [m.body["report"]["data"]["done"] for m in rig.control.seen if m.kind == "report"]  # noqa: E731
    await until(lambda: len(reports()) == 20)
    assert reports() == list(range(20))


async def test_everything_but_hello_works_while_control_is_away(rig):
    await ready(rig, order=ORDER, nonce_key=NONCE_KEY)
    await rig.control.stop()
    await until(lambda: not rig.link.synced)
    answer, body = await get(rig, "/order")
    assert (answer.status, body) == (200, ORDER)
    assert await post(rig, "/report", {"order_id": "o1", "outcome": "done"}) == (200, {})
    status, body = await post(rig, "/hello", {"nonce": "n", "macs": []}, {})
    assert (status, body["error"]["code"]) == (503, "control-away")
    answer, body = await get(rig, "/order", {"Authorization": "Bearer new"})
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    async with rig.session.get(rig.http + "/boot/52-54-00-00-00-01.ipxe") as script:
        assert "baremetal.nonce=" in await script.text()
    await rig.control.start()
    await until(lambda: any(m.kind == "report" for m in rig.control.seen))


async def test_metadata_is_held_and_signed(rig):
    def with_generation(n):
        meta = {"generation": n, "document": f'{{"g":{n}}}', "signature": "c2ln"}
        return view(instance_token_sha256=sha(TOKEN), metadata=meta)

    rig.control.push(with_generation(1))
    await until(lambda: rig.state.by_token(TOKEN))
    answer, body = await get(rig, "/metadata")
    assert (body, answer.headers["ETag"], answer.headers[SIGNATURE_HEADER]) == ({"g": 1}, '"1"', "c2ln")
    held = asyncio.create_task(get(rig, "/metadata?wait=30", {**AUTH, "If-None-Match": '"1"'}))
    await until(lambda: len(rig.apps.wakeups) == 1)
    rig.control.push(with_generation(2))
    answer, body = await held
    assert body == {"g": 2}
    answer, body = await get(rig, "/metadata?wait=0", {**AUTH, "If-None-Match": '"2"'})
    assert (answer.status, body) == (304, None)


async def test_one_node_cannot_take_all_requests(rig):
    await ready(rig)
    held = [asyncio.create_task(get(rig, "/order?wait=30")) for _ in range(agentapi.PER_NODE)]
    await until(lambda: len(rig.apps.wakeups) == agentapi.PER_NODE)
    answer, body = await get(rig, "/order?wait=5")
    assert (answer.status, body["error"]["code"]) == (429, "too-many")
    for task in held:
        task.cancel()
    await until(lambda: len(rig.apps.wakeups) == 0)
    answer, _ = await get(rig, "/order")
    assert answer.status == 204


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "inf", "1e400"])
async def test_silly_waits(rig, wait):
    await ready(rig)
    answer, _ = await get(rig, f"/order?wait={wait}")
    assert answer.status == 400


async def test_urls_of_an_order_are_on_the_address_that_the_agent_reached(rig):
    import dataclasses

    from baremetal.model.network import Network
    from baremetal.protocol.plane import Snapshot

    far = Network("a", "eth0", "10.0.0.0/24", "10.0.0.1", "10.0.0.128", "10.0.0.254")
    near = Network("b", "lo", "127.0.0.0/8", "127.0.0.1", "127.0.0.128", "127.0.0.254")
    args = {
        "image_url": "http://10.0.0.1:8080/images/x/image.zst",
        "manifest_url": "https://mirror/x",
        "config_drive": "y",
        "image_urls": ["http://10.0.0.2:8080/x", "http://127.0.0.7:8080/x", "http://10.0.0.1:8080/x"],
    }
    node = view(ramdisk_token_sha256=sha(TOKEN), order={"id": "o", "kind": "write_image", "args": args})
    rig.control.snapshot = Snapshot(networks=[dataclasses.asdict(n) for n in (far, near)], nodes=[node.to_json()])
    rig.control.link.push_all()
    await until(lambda: rig.state.networks)
    _, body = await get(rig, "/order")
    # Of several places: ours, then those on the agent's network, then the rest.
    places = ["http://127.0.0.1:8080/x", "http://127.0.0.7:8080/x", "http://10.0.0.2:8080/x"]
    assert body["args"] == {**args, "image_url": "http://127.0.0.1:8080/images/x/image.zst", "image_urls": places}


async def test_a_flood_from_one_node_is_a_trickle_for_control(rig):
    """Each message becomes a row in the database; whoever holds a token, or is on the wire, may ask in a loop."""
    meta = {"generation": 1, "document": '{"values": {}, "deployments": []}', "signature": "s"}
    rig.control.push(view(instance_token_sha256=sha(TOKEN), nonce_key=NONCE_KEY, metadata=meta))
    await until(lambda: rig.state.by_token(TOKEN))
    reports, words = [], []
    for n in range(200):
        assert (await get(rig, "/metadata"))[0].status == 200
        body = {"metadata_generation": 1, "outcome": "applied", "seconds": n}
        reports.append((await post(rig, "/config-report", body))[0])
        async with rig.session.get(rig.http + "/boot/52-54-00-00-00-01.ipxe") as answer:
            words.append((await answer.text()).partition("baremetal.nonce=")[2].split()[0])
    await until(lambda: not len(rig.spool))
    told = Counter(message.kind for message in rig.control.seen)
    assert told["metadata-sent"] <= 80
    assert told["script-sent"] <= 80
    assert (reports[0], reports[-1]) == (200, 429)
    assert told["config-report"] == reports.count(200) < 190
    assert nonce.verify(words[-1], NONCE_KEY, "n1", "b1"), "a script is handed out all the same"
