"""Webhooks: signed, in order, again until taken; the secret is shown once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiohttp import web

from baremetal.api import webhooks
from baremetal.api.app import create_app
from baremetal.api.webhooks import Webhooks, signature


class Receiver:
    """A server that takes events, or refuses the first few."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.refuse = 0

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if self.refuse:
            self.refuse -= 1
            return web.Response(status=503)
        self.got.append((dict(request.headers), body))
        return web.Response(status=204)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(90):
            while len(self.got) < count:  # noqa: ASYNC110 (a real receiver has no event to wait for)
                await asyncio.sleep(0.02)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.get_running_loop().create_server(web.Server(made.take), "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"  # type: ignore[attr-defined]
    yield made
    server.close()


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    hooks = Webhooks(bench.con)
    await hooks.start()
    transport = httpx.ASGITransport(app=create_app(bench.con, hooks), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client
    await hooks.stop()


async def test_events_arrive_signed_and_in_order(bench: Any, api: httpx.AsyncClient, receiver: Any) -> None:
    made = (await api.post("/api/webhooks", json={"name": "chat", "url": receiver.url, "kinds": ["verb"]})).json()
    for name in ("n1", "n2", "n3"):
        await bench.enroll(name)
    await receiver.until(3)
    docs = [json.loads(body) for _, body in receiver.got]
    assert [d["event"]["node"] for d in docs[:3]] == ["n1", "n2", "n3"]
    headers, body = receiver.got[0]
    assert headers["X-Baremetal-Signature"] == signature(made["secret"], int(headers["X-Baremetal-Timestamp"]), body)
    assert headers["X-Baremetal-Delivery"] == docs[0]["event"]["id"]
    assert 'outcome="taken"' in (await api.get("/metrics")).text


async def test_the_secret_is_shown_once(bench: Any, api: httpx.AsyncClient, receiver: Any) -> None:
    made = (await api.post("/api/webhooks", json={"name": "chat", "url": receiver.url})).json()
    assert len(made["secret"]) > 20
    for path in ("/api/webhooks", "/api/webhooks/chat"):
        text = (await api.get(path)).text
        assert "******" in text
        assert made["secret"] not in text
    assert made["secret"].encode() not in bench.store.path.read_bytes()


async def test_a_receiver_that_was_away_gets_everything_once(
    bench: Any, api: httpx.AsyncClient, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "FIRST_PAUSE_S", 0.05)
    receiver.refuse = 3
    await api.post("/api/webhooks", json={"name": "chat", "url": receiver.url, "kinds": ["server"]})
    assert (await api.post("/api/webhooks/chat/test", json={})).status_code == 202
    await receiver.until(1)
    assert json.loads(receiver.got[0][1])["event"]["stage"] == "webhook-test"
    async with asyncio.timeout(90):
        while (await api.get("/api/webhooks/chat")).json()["failing"] is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"url": "https://x/"}, "name"),
        ({"name": "a", "url": "file:///etc/passwd"}, "URL"),
        ({"name": "a", "url": "https://user:pw@x/"}, "URL"),
        ({"name": "a", "url": "https://x/", "kinds": ["nope"]}, "kind"),
        ({"name": "a", "url": "https://x/", "secret": "short"}, "16 characters"),
        ({"name": "a", "url": "https://x/", "colour": 1}, "colour"),
    ],
)
async def test_what_is_no_webhook_is_refused(api: httpx.AsyncClient, body: dict[str, Any], word: str) -> None:
    answer = await api.post("/api/webhooks", json=body)
    assert answer.status_code == 400
    assert word in answer.json()["error"]["brief"]


async def test_a_deleted_webhook_is_gone_with_its_secret(api: httpx.AsyncClient, bench: Any, receiver: Any) -> None:
    await api.post("/api/webhooks", json={"name": "chat", "url": receiver.url})
    assert (await api.delete("/api/webhooks/chat")).status_code == 204
    assert (await api.get("/api/webhooks/chat")).status_code == 404
    assert not bench.store.read(lambda c: c.exec_driver_sql("select * from secrets").all())


async def test_a_test_that_would_never_be_sent_is_refused_with_what_to_do(
    api: httpx.AsyncClient, receiver: Any
) -> None:
    await api.post("/api/webhooks", json={"name": "chat", "url": receiver.url, "kinds": ["fault", "verb"]})
    refused = await api.post("/api/webhooks/chat/test")
    said = refused.json()["error"]
    assert refused.status_code == 409
    assert said["detail"] == "it takes fault, verb"
    assert f"baremetal webhook add chat {receiver.url} -k fault -k verb -k server" in said["fix"]
    await api.post("/api/webhooks", json={"name": "all", "url": receiver.url})
    assert (await api.post("/api/webhooks/all/test")).status_code == 202
    await receiver.until(1)
