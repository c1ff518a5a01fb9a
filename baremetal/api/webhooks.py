"""Webhooks: events sent to other people's servers, signed, in order, again until they are taken.

Each hook has a cursor into the events; it moves when the receiver answered 2xx,
and is stored, so a restart repeats at most what was being sent (receivers know
a delivery by its id). A receiver that is away gets pauses that grow to
MOST_PAUSE_S; what is older than KEEP_S is dropped, which is an event.

    X-Baremetal-Event: fault
    X-Baremetal-Delivery: 01J…            the event's id, the same for every try
    X-Baremetal-Timestamp: 1732200000
    X-Baremetal-Signature: v1=<hex HMAC-SHA256(secret, "<timestamp>.<body>")>
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets as random_secrets
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy.engine import Connection

from baremetal.api.tally import Labels
from baremetal.errors import NotFound, UsageError
from baremetal.model.event import Event, Kind
from baremetal.secrets import Secret
from baremetal.store import events, nodes, records, secrets
from baremetal.store.records import Record
from baremetal.workflows import ids, views
from baremetal.workflows.conductor import Conductor

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger(__name__)

KIND = "webhook"
SECRET = "webhook-secret"  # noqa: S105 (the name of a field)
TIMEOUT_S = 10.0
FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 300.0
KEEP_S = 24 * 3600.0
BATCH = 100
LOOK_S = 30.0  # a hook made on another server is found after this
MOST = 50


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """What the receiver computes again and compares."""
    return "v1=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def create(conn: Connection, con: Conductor, body: dict[str, Any], now: float) -> tuple[Record, str]:
    """A new hook and its secret; the secret is shown this once."""
    unknown = set(body) - {"name", "url", "kinds", "secret"}
    if unknown:
        raise UsageError(f"a webhook does not know {', '.join(sorted(unknown))}", fix="name, url, kinds, secret")
    name, url = body.get("name"), body.get("url")
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        raise UsageError("a webhook needs a name", fix='{"name": "chat", "url": "https://…", "kinds": ["fault"]}')
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise UsageError(f"{str(url)[:100]!r} is not the URL of a webhook", fix="https://host/path, without a user")
    kinds = body.get("kinds") or []
    wrong = [k for k in kinds if k not in list(Kind)] if isinstance(kinds, list) else ["kinds"]
    if wrong:
        raise UsageError(f"there is no kind of event {str(wrong[0])[:40]!r}", fix=", ".join(Kind))
    if len(records.of_kind(conn, KIND)) >= MOST:
        raise UsageError(f"there are {MOST} webhooks already")
    secret = body.get("secret") or random_secrets.token_urlsafe(32)
    if not isinstance(secret, str) or len(secret) < 16:
        raise UsageError("a webhook's secret has at least 16 characters", fix="leave it out: one is made")
    doc = {"url": url, "kinds": kinds, "cursor": events.last_seq(conn), "failing": None}
    record = Record(str(uuid.uuid4()), KIND, name, doc, now, now)
    records.add(conn, record)
    secrets.put(conn, con.world.operator, record.id, SECRET, Secret(secret), now)
    return record, secret


def delete(conn: Connection, ref: str) -> None:
    """Forget it and its secret."""
    record = find(conn, ref)
    secrets.forget(conn, record.id)
    records.delete(conn, record.id)


def find(conn: Connection, ref: str) -> Record:
    """By name or id."""
    record = records.find(conn, KIND, ref)
    if record is None:
        raise NotFound(f"no webhook {ref[:80]!r}", fix="baremetal webhook list")
    return record


def shown(record: Record, waiting: int = 0) -> dict[str, Any]:
    """As the API shows it: the secret never."""
    doc = record.doc
    return {
        "id": record.id,
        "name": record.name,
        "url": doc["url"],
        "kinds": doc["kinds"],
        "secret": "******",
        "failing": doc.get("failing"),
        "waiting": waiting,
        "created_at": record.created_at,
    }


class Webhooks:
    """Sends. One task a hook, so that one slow receiver delays no other."""

    def __init__(self, con: Conductor) -> None:
        self._con = con
        self.counts: Counter[Labels] = Counter()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._main: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None

    async def start(self) -> None:
        """Begin with the hooks that are stored."""
        self._main = asyncio.create_task(self._watch(), name="webhooks")

    async def stop(self) -> None:
        """At once; what was not taken is sent after the next start."""
        tasks = [t for t in (self._main, *self._tasks.values()) if t]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    async def _watch(self) -> None:
        """A task for each hook there is."""
        while True:
            since = self._con.bell.count
            try:
                known = await self._ours()
            except Exception:
                log.exception("webhooks cannot be read")
                known = set(self._tasks)
            for hook_id in known - set(self._tasks):
                self._tasks[hook_id] = asyncio.create_task(self._serve(hook_id), name=f"webhook-{hook_id}")
            for hook_id in set(self._tasks) - known:
                self._tasks.pop(hook_id).cancel()
            await self._con.wait_for_change(LOOK_S, since)
            await asyncio.sleep(0.1)

    async def _ours(self) -> set[str]:
        """All hooks on the server that leads the site, none on the others: each event goes out once."""
        if not self._con.leads():
            return set()
        return {r.id for r in await self._con.store.fetch(lambda c: records.of_kind(c, KIND))}

    async def _serve(self, hook_id: str) -> None:
        pause = FIRST_PAUSE_S
        while True:
            since = self._con.bell.count
            try:
                record = await self._con.store.fetch(lambda c: records.find(c, KIND, hook_id))
                if record is None:
                    return
                found = await self._con.store.fetch(lambda c, r=record: _pending(c, r))  # type: ignore[misc]
                if not found:
                    await self._con.wait_for_change(LOOK_S, since)
                    await asyncio.sleep(0.05)
                    continue
                await self._send_all(record, found)
                pause = FIRST_PAUSE_S
            except _NotTaken as exc:
                await self._failing(hook_id, str(exc))
                await asyncio.sleep(pause)
                pause = min(pause * 2, MOST_PAUSE_S)
            except Exception:
                log.exception("webhook %s stumbled", hook_id)
                await asyncio.sleep(MOST_PAUSE_S)

    async def _send_all(self, record: Record, found: list[tuple[int, Event]]) -> None:
        """One after the other; the cursor follows."""
        con, kinds = self._con, record.doc["kinds"]
        secret = con.store.read(lambda c: secrets.get(c, con.world.operator, record.id, SECRET))
        done, now, dropped = record.doc["cursor"], con.clock.now(), 0
        try:
            for seq, event in found:
                if not kinds or str(event.kind) in kinds:
                    if now - event.time > KEEP_S:
                        dropped += 1
                        self._count(record, "dropped")
                    else:
                        await self._send(record, seq, event, secret.reveal() if secret else "")
                done = seq
        finally:
            if done != record.doc["cursor"]:
                await con.store.write(lambda c: _advance(c, record.id, done, dropped, now))

    async def _send(self, record: Record, seq: int, event: Event, secret: str) -> None:
        con = self._con
        node_id = event.node_id
        node = con.store.read(lambda c: nodes.find(c, node_id)) if node_id else None
        doc = views.event_json(event, {node.id: node.name} if node else {}, seq)
        body = json.dumps({"webhook": record.name, "event": doc}, separators=(",", ":")).encode()
        stamp = int(con.clock.now())
        headers = {
            "Content-Type": "application/json",
            "X-Baremetal-Event": str(event.kind),
            "X-Baremetal-Delivery": event.id,
            "X-Baremetal-Timestamp": str(stamp),
            "X-Baremetal-Signature": signature(secret, stamp, body),
        }
        status = await self._post(record.doc["url"], body, headers)
        self._count(record, "taken" if status is None else "failed")
        if status is not None:
            raise _NotTaken(status)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> str | None:
        """None when it was taken, else why not."""
        from aiohttp import ClientError, ClientSession, ClientTimeout

        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=TIMEOUT_S))
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return None if 200 <= answer.status < 300 else f"HTTP {answer.status}"
        except (ClientError, OSError, TimeoutError) as exc:
            return f"{type(exc).__name__}: {str(exc)[:200]}"

    async def _failing(self, hook_id: str, why: str) -> None:
        def write(conn: Connection) -> None:
            record = records.find(conn, KIND, hook_id)
            if record and record.doc.get("failing") != why:
                records.change(conn, hook_id, record.name, {**record.doc, "failing": why}, self._con.clock.now())

        await self._con.store.write(write)

    def _count(self, record: Record, outcome: str) -> None:
        self.counts[(("webhook", record.name), ("outcome", outcome))] += 1


class _NotTaken(Exception):
    """The receiver did not take it."""


def _pending(conn: Connection, record: Record) -> list[tuple[int, Event]]:
    return events.after(conn, record.doc["cursor"], limit=BATCH)


def _advance(conn: Connection, hook_id: str, cursor: int, dropped: int, now: float) -> None:
    record = records.find(conn, KIND, hook_id)
    if record is None:
        return
    records.change(conn, hook_id, record.name, {**record.doc, "cursor": cursor, "failing": None}, now)
    if dropped:
        told = {"webhook": record.name, "events": dropped}
        gone = Event(ids.ulid(now), now, None, Kind.SERVER, "webhook-dropped", "control", "failed", data=told)
        events.add_all(conn, [gone])
