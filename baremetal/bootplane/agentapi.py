"""What agents ask over HTTPS (protocol/agent.py): hello, order, report, metadata, config-report.

Orders and metadata are answered from the snapshot, also while control is away;
held requests return as soon as a push concerns their node. Reports are kept on
disk before they are answered. Only hello needs control.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from baremetal.bootplane.answers import HttpError, answer, read_body, wait_seconds
from baremetal.bootplane.link import Link
from baremetal.bootplane.seldom import Seldom, Share
from baremetal.bootplane.state import Entry, State, Who
from baremetal.bootplane.wake import Wakeups
from baremetal.protocol.agent import INSTANCE, PROGRESS, RAMDISK, ConfigReport, Hello, Report
from baremetal.protocol.metadata import GENERATION_HEADER, SIGNATURE_HEADER

LONGEST_WAIT_S = 60.0
HELLO_BYTES = 64 * 1024
REPORT_BYTES = 4 * 1024 * 1024  # an inventory of a large machine is 200 kB
PER_NODE = 4  # requests of one node at the same time
BEAT_S = 10.0
TOKEN_MAX = 256

AgentHandler = Callable[[web.Request, Who], Awaitable[web.StreamResponse]]


@dataclass
class AgentApi:
    """Handlers below AGENT_ROOT."""

    state: State
    link: Link
    wakeups: Wakeups
    _busy: dict[str, int] = field(default_factory=dict)
    _beats: dict[str, float] = field(default_factory=dict)
    _alarms: Seldom = field(default_factory=Seldom)
    _reports: Share = field(default_factory=lambda: Share(120, 5.0))  # an agent tells its progress once a second

    async def hello(self, request: web.Request) -> web.StreamResponse:
        """POST hello: control checks the nonce and answers a token."""
        word = Hello.from_bytes(await read_body(request, HELLO_BYTES))
        body = {"hello": word.to_json(), "source": request.remote}
        with self._one_of_few(f"hello {request.remote}"):
            return answer(await self.link.call("hello", body))

    def of(self, handler: AgentHandler, *agents: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """`handler` behind the token of one of these kinds of agent."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            self._good()
            who = await self._who(request)
            if who.agent not in agents:
                raise HttpError(403, "denied", f"not for the {who.agent} agent")
            if handler == self.config_report:
                self._beats[who.node] = time.monotonic()  # the report itself is a sign of life
            else:
                self._beat(who)
            if request.method == "POST" and not self._reports.take(f"{who.agent} {who.node}"):
                raise HttpError(429, "too-many", "too many reports of this node in a short time")
            with self._one_of_few(who.node):
                return await handler(request, who)

        return guarded

    async def order(self, request: web.Request, who: Who) -> web.StreamResponse:
        """GET order?wait=S&after=ID: the node's order, unless it is the one the agent has."""
        deadline = time.monotonic() + wait_seconds(request, LONGEST_WAIT_S)
        after = request.query.get("after", "")
        while True:
            entry = self._still(who)
            order = entry.view.order
            if order is not None and order.get("id") != after:
                return answer(_reachable(order, request, self.state))
            left = deadline - time.monotonic()
            if left <= 0 or not await self.wakeups.wait(who.node, left):
                return web.Response(status=204)

    async def report(self, request: web.Request, who: Who) -> web.StreamResponse:
        """POST report: kept on disk, then answered."""
        report = Report.from_bytes(await read_body(request, REPORT_BYTES))
        if not isinstance(report.data, dict) or not isinstance(report.outcome, str):
            raise HttpError(400, "bad-document", "Report: data is an object, outcome is text")
        body = {"report": report.to_json(), "boot_id": who.entry.record.boot_id}
        if report.outcome == PROGRESS:
            self.link.tell("report", who.node, body)
        else:
            await self.link.tell_durably("report", who.node, body)
        return answer({})

    async def metadata(self, request: web.Request, who: Who) -> web.StreamResponse:
        """GET metadata?wait=S: the signed document, or 304 when the agent has this generation."""
        deadline = time.monotonic() + wait_seconds(request, LONGEST_WAIT_S)
        known = request.headers.get("If-None-Match", "").strip()
        while True:
            document = self._still(who).view.metadata
            if document is None:
                raise HttpError(404, "no-metadata", "this node has no metadata yet")
            generation = int(document["generation"])
            if known != f'"{generation}"':
                self.link.note("metadata-sent", who.node, {"generation": generation})
                return _document(document, generation)
            left = deadline - time.monotonic()
            if left <= 0 or not await self.wakeups.wait(who.node, left):
                return web.Response(status=304, headers={"ETag": known})

    async def values(self, request: web.Request) -> web.StreamResponse:
        """GET request/TOKEN: the values as one JSON object, for os-collect-config's `request` source.

        Those clients send no header: the address is the secret, as a Swift temporary URL is. HTTPS only.
        """
        self._good()
        who = await self._of_token(request, request.match_info["token"])
        if who.agent != INSTANCE:
            raise HttpError(403, "denied", f"not for the {who.agent} agent")
        self._beat(who)
        document = who.entry.view.metadata
        if document is None:
            raise HttpError(404, "no-metadata", "this node has no metadata yet")
        found = json.loads(document["document"])
        response = answer({**found["values"], "deployments": found["deployments"]})
        response.headers.update({"ETag": f'"{document["generation"]}"', "Cache-Control": "no-store"})
        return response

    async def config_report(self, request: web.Request, who: Who) -> web.StreamResponse:
        """POST config-report: kept on disk, then answered."""
        report = ConfigReport.from_bytes(await read_body(request, REPORT_BYTES))
        await self.link.tell_durably("config-report", who.node, {"report": report.to_json()})
        return answer({})

    def routes(self, root: str) -> list[web.RouteDef]:
        """All of it, below `root`."""
        return [
            web.post(f"{root}/hello", self.hello),
            web.get(f"{root}/order", self.of(self.order, RAMDISK)),
            web.post(f"{root}/report", self.of(self.report, RAMDISK)),
            web.get(f"{root}/metadata", self.of(self.metadata, INSTANCE)),
            web.get(f"{root}/request/{{token}}", self.values),
            web.post(f"{root}/config-report", self.of(self.config_report, INSTANCE)),
        ]

    # ---------------------------------------------------------- who asks

    def _good(self) -> None:
        """503 when other servers may know better: the agent asks the next of its addresses."""
        if not self.state.standing.good():
            raise HttpError(503, "cut-off", "this server cannot reach the database", fix="ask another server")

    async def _who(self, request: web.Request) -> Who:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise HttpError(401, "no-token", "say hello first", fix="POST hello with the nonce of this boot")
        return await self._of_token(request, token)

    async def _of_token(self, request: web.Request, token: str) -> Who:
        who = self.state.by_token(token) if len(token) <= TOKEN_MAX else None
        if who is None and self.state.standing.shared and len(token) <= TOKEN_MAX:
            who = await self._ask(request, token)
        if who is None:
            self._refuse(request)
        assert who is not None
        return who

    async def _ask(self, request: web.Request, token: str) -> Who | None:
        """Another server may have given this token a moment ago: control looks into the database."""
        with self._one_of_few(f"token {request.remote}"):
            await self.link.call("token", {"sha256": hashlib.sha256(token.encode()).hexdigest()})
        return self.state.by_token(token)

    def _refuse(self, request: web.Request) -> None:
        if not self.link.synced:
            # The token may be newer than what we know: only control can say that it is wrong.
            raise HttpError(503, "control-away", "the control plane is away and this token is not known here")
        entry = self.state.by_address(request.remote or "")
        if times := self._alarms.due(request.remote or ""):
            body = {"what": "token", "why": f"unknown or dead token, {times} times", "source": request.remote}
            self.link.note("refused", entry.view.node if entry else None, body)
        raise HttpError(401, "dead-token", "this token is unknown or its boot has ended", fix="wait for a new boot")

    def _still(self, who: Who) -> Entry:
        """The node as it is now; 401 when the token died while the request was held.

        That is how a boot ends in good order, so nobody is alarmed.
        """
        self._good()
        entry = self.state.nodes.get(who.node)
        field_name = "ramdisk_token_sha256" if who.agent == RAMDISK else "instance_token_sha256"
        if entry is None or getattr(entry.view, field_name) != getattr(who.entry.view, field_name):
            raise HttpError(401, "dead-token", "this boot has ended", fix="wait for a new boot")
        return entry

    @contextlib.contextmanager
    def _one_of_few(self, who: str) -> Iterator[None]:
        count = self._busy.get(who, 0)
        if count >= PER_NODE:
            raise HttpError(429, "too-many", f"{count} requests of this node are under way")
        self._busy[who] = count + 1
        try:
            yield
        finally:
            if self._busy[who] == 1:
                del self._busy[who]
            else:
                self._busy[who] -= 1

    def _beat(self, who: Who) -> None:
        now = time.monotonic()
        if now - self._beats.get(who.node, -BEAT_S) >= BEAT_S:
            self._beats[who.node] = now
            self.link.note("beat", who.node, {"boot_id": who.entry.record.boot_id, "agent": who.agent})


def _reachable(order: dict[str, Any], request: web.Request, state: State) -> dict[str, Any]:
    """The order with its URLs on the address that the agent reached us at: on a second network control's own is far.

    Of several places for a file: ours, then those on the agent's network, then the rest.
    """
    here = request.transport.get_extra_info("sockname")[0] if request.transport else ""
    args = order.get("args")
    if not isinstance(args, dict):
        return order
    near = next((network.cidr for network in state.networks if network.server == here), None)
    others = {network.server for network in state.networks} - {here}
    moved: dict[str, Any] = {}
    for key, value in args.items():
        if key.endswith("_url") and isinstance(value, str):
            moved[key] = _moved(value, here, others)
        elif key.endswith("_urls") and isinstance(value, list):
            urls = dict.fromkeys(_moved(str(url), here, others) for url in value)
            moved[key] = sorted(urls, key=lambda url: (urlsplit(url).hostname != here, not _within(url, near)))
    return {**order, "args": {**args, **moved}}


def _moved(url: str, here: str, others: set[str]) -> str:
    """The URL on the address `here`, when it names another of ours."""
    parts = urlsplit(url)
    if parts.hostname not in others:
        return url
    return parts._replace(netloc=f"{here}:{parts.port}" if parts.port else here).geturl()


def _within(url: str, network: str | None) -> bool:
    """Is the address of this URL in that network?"""
    try:
        return network is not None and ipaddress.ip_address(urlsplit(url).hostname or "") in ipaddress.ip_network(
            network
        )
    except ValueError:
        return False


def _document(document: dict[str, Any], generation: int) -> web.Response:
    headers = {
        "ETag": f'"{generation}"',
        GENERATION_HEADER: str(generation),
        SIGNATURE_HEADER: str(document["signature"]),
        "Cache-Control": "no-store",
    }
    return web.Response(text=str(document["document"]), content_type="application/json", headers=headers)
