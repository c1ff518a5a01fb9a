"""What Ironic's routes share: version, caller, bodies, paging, answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.engine import Connection

from baremetal.api.ironic import fields, version
from baremetal.api.ironic.version import Refusal
from baremetal.api.native.common import conductor, who
from baremetal.errors import NotFound
from baremetal.model.node import Node
from baremetal.store import nodes
from baremetal.workflows.conductor import Conductor

MOST = 1000


@dataclass(frozen=True)
class Asked:
    """One request: the conductor, the microversion, who asks."""

    con: Conductor
    version: tuple[int, int]
    who: str

    @property
    def minor(self) -> int:
        """The x of 1.x."""
        return self.version[1]


def ask_of(request: Request) -> Asked:
    """Negotiated."""
    return Asked(conductor(request), version.wanted(request), who(request))


def base_of(request: Request) -> str:
    """http://host:port"""
    return f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"


def answer(asked: Asked, doc: Any, status: int = 200, more: dict[str, str] | None = None) -> Response:
    """JSON (or nothing) with the version headers."""
    headers = {**version.headers(asked.version), **(more or {})}
    if doc is None:
        return Response(status_code=status, headers=headers)
    return JSONResponse(doc, status_code=status, headers=headers)


async def body_of(request: Request, kind: type = dict) -> Any:
    """The JSON body."""
    raw = await request.body()
    try:
        doc = json.loads(raw) if raw.strip() else kind()
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not JSON") from None
    if not isinstance(doc, kind):
        raise Refusal(400, f"The body must be a JSON {'object' if kind is dict else 'list'}")
    return doc


def node_of(asked: Asked, ident: str) -> Node:
    """By UUID or name; Ironic's 404."""
    try:
        return asked.con.store.read(lambda c: nodes.get(c, ident))
    except NotFound:
        raise Refusal(404, f"Node {ident[:80]} could not be found.") from None


FILTERS: dict[str, Callable[[dict[str, Any], str], bool]] = {
    "provision_state": lambda doc, v: doc["provision_state"] == v,
    "maintenance": lambda doc, v: doc["maintenance"] is (v.lower() in ("true", "1")),
    "associated": lambda doc, v: bool(doc["instance_uuid"]) is (v.lower() in ("true", "1")),
    "driver": lambda doc, v: doc["driver"] == v,
    "instance_uuid": lambda doc, v: doc["instance_uuid"] == v,
    "resource_class": lambda doc, v: doc.get("resource_class") == v,
    "fault": lambda doc, v: doc.get("fault") == v,
    "owner": lambda doc, v: doc.get("owner") == v,
    "retired": lambda doc, v: doc.get("retired") is (v.lower() in ("true", "1")),
}


async def paged(request: Request, asked: Asked, shape: Callable[[dict[str, Any]], dict[str, Any]]) -> Response:
    """Nodes with `limit`, `marker`, filters and a `next` link."""
    query = request.query_params
    text = query.get("limit", "")
    limit = min(int(text), MOST) if text.isdecimal() and int(text) else MOST
    base = base_of(request)
    wanted = {k: v for k, v in query.items() if k in FILTERS}

    def read(conn: Connection) -> tuple[list[dict[str, Any]], str | None]:
        marker = query.get("marker")
        after = nodes.get(conn, marker).name if marker else ""
        found: list[dict[str, Any]] = []
        while True:
            chunk = nodes.page(conn, after=after, limit=limit + 1)
            for node in chunk:
                doc = fields.node_doc(node, base, asked.minor)
                if wanted and not all(FILTERS[k](fields.node_doc(node, base, 110), v) for k, v in wanted.items()):
                    continue
                if len(found) == limit:
                    return found, found[-1]["uuid"]
                found.append(doc)
            if len(chunk) <= limit:
                return found, None
            after = chunk[-1].name

    try:
        docs, following = await asked.con.store.fetch(read)
    except NotFound:
        raise Refusal(404, f"Marker {query.get('marker', '')[:80]} could not be found.") from None
    doc: dict[str, Any] = {"nodes": [shape(d) for d in docs]}
    if following:
        rest = {k: v for k, v in query.items() if k != "marker"} | {"marker": following}
        doc["next"] = f"{base}{request.url.path}?{urlencode(rest)}"
    return answer(asked, doc)
