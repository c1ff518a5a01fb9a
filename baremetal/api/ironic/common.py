"""What Ironic's routes share: the request in hand, answers, paging, types of what is sent."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from sqlalchemy.engine import Connection

from baremetal.api.auth import ADMIN
from baremetal.api.http import (
    Receive,
    Reply,
    Routes,
    Scope,
    base_of,
    dumps,
    header,
    parse_json,
    query_of,
    read_body,
)
from baremetal.api.ironic import version
from baremetal.api.ironic.version import Refusal
from baremetal.errors import NotFound
from baremetal.model.node import Node
from baremetal.store import nodes
from baremetal.workflows.conductor import Conductor

if TYPE_CHECKING:
    from baremetal.api.ironic.shelf import Shelf

MOST = 1000  # entries on one page
HOST = "baremetal"  # the name of our one conductor
NAME_MOST = 255
TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
FALSE = frozenset({"0", "f", "false", "off", "n", "no"})

Handler = Callable[..., Awaitable[Reply]]
H = TypeVar("H", bound=Handler)
routes: Routes[tuple[Handler, int]] = Routes()


def route(method: str, pattern: str, since: int = 1) -> Callable[[H], H]:
    """Register a handler below /v1. `since`: the microversion 1.x that has it; older ones get 404."""

    def register(handler: H) -> H:
        routes.add(method, pattern, (handler, since))
        return handler

    return register


class Asked:
    """One request."""

    __slots__ = ("_base", "_query", "_receive", "con", "minor", "scope", "shelf", "who")

    def __init__(self, con: Conductor, shelf: Shelf, scope: Scope, receive: Receive, minor: int) -> None:
        self.con, self.shelf, self.scope, self.minor = con, shelf, scope, minor
        self._receive = receive
        self._base: str | None = None
        self._query: dict[str, str] | None = None
        self.who: str = who_of(scope)

    @property
    def base(self) -> str:
        """http://host:port"""
        if self._base is None:
            self._base = base_of(self.scope)
        return self._base

    @property
    def query(self) -> dict[str, str]:
        """The query."""
        if self._query is None:
            self._query = query_of(self.scope)
        return self._query

    @property
    def project(self) -> str | None:
        """Only this project's nodes may be seen; None: all."""
        found: str | None = self.scope.get("baremetal.project")
        return found

    async def body(self, kind: type = dict, what: str = "body") -> Any:
        """The JSON body; an empty one is an empty object."""
        raw = await read_body(self.scope, self._receive)
        doc = parse_json(raw) if raw.strip() else kind()
        if not isinstance(doc, kind):
            shown = "object" if kind is dict else "array"
            raise Refusal(400, f"Schema error for {what}: {str(doc)[:80]!r} is not of type '{shown}'")
        return doc

    def known_query(self, *names: str) -> None:
        """Refuse arguments that mean nothing here: a filter with a typing error would answer too much."""
        # metalsmith without a network service asks us for Neutron's ports: `binding:host_id`. Ironic has no such names.
        unknown = [name for name in self.query if name not in names and ":" not in name]
        if unknown:
            raise Refusal(400, f"Unexpected arguments: {', '.join(unknown)[:200]}")

    def flag(self, name: str) -> bool | None:
        """A boolean of the query."""
        text = self.query.get(name)
        return None if text is None else boolean(name, text)

    def limit(self) -> int:
        """How many entries a page may have."""
        text = self.query.get("limit")
        if text is None:
            return MOST
        try:
            value = int(text)
        except ValueError:
            raise Refusal(400, f"Expected an integer for limit: {text[:40]}") from None
        if value < 0:
            raise Refusal(400, "Limit must be positive")
        return min(value, MOST) or MOST

    def fields(self) -> tuple[str, ...] | None:
        """The fields asked for."""
        text = self.query.get("fields")
        return tuple(text.split(",")) if text else None


def who_of(scope: Scope) -> str:
    """Who asks. Over the unix socket the CLI says it; authentication overrides it."""
    return str(scope.get("baremetal.user") or header(scope, b"x-baremetal-user") or "operator")[:80]


def boolean(name: str, text: str) -> bool:
    """As oslo's strict booleans."""
    word = text.strip().lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    allowed = ", ".join(f"'{w}'" for w in sorted(TRUE | FALSE))
    raise Refusal(400, f"Invalid {name}: Unrecognized value '{text[:40]}', acceptable values are: {allowed}")


def answer(asked: Asked, doc: Any, status: int = 200, location: str = "") -> Reply:
    """JSON (or nothing, for None) with the version headers."""
    return answer_bytes(asked, b"" if doc is None else dumps(doc), status, location)


def answer_bytes(asked: Asked, body: bytes, status: int = 200, location: str = "") -> Reply:
    """The same for JSON that is text already."""
    headers = version.JSON_HEADERS[asked.minor] if body else version.HEADERS[asked.minor]
    if location:
        headers = [*headers, (b"location", f"{asked.base}/v1/{location}".encode())]
    return Reply(status, body, headers)


def links(base: str, path: str) -> list[dict[str, str]]:
    """self and bookmark."""
    return [{"href": f"{base}/v1/{path}", "rel": "self"}, {"href": f"{base}/{path}", "rel": "bookmark"}]


def node_of(asked: Asked, ident: str, status: int = 404) -> Node:
    """By UUID or name; Ironic's 404 (in bodies: 400)."""
    node = asked.con.store.read(functools.partial(nodes.find, ref=ident))
    if node is None or not visible(asked, node):
        raise missing(ident, status)
    return node


def visible(asked: Asked, node: Node) -> bool:
    """May this caller know of the node? An account with a project sees what that owns or leases."""
    return asked.project is None or asked.project in parties(node)


def trusted(scope: Scope) -> bool:
    """May have BMC passwords sent to another address: root on the unix socket, and admins of the whole site."""
    return scope.get("baremetal.role") in (None, ADMIN) and scope.get("baremetal.project") is None


def parties(node: Node) -> tuple[str | None, str | None]:
    """(owner, lessee)"""
    kept = node.extra.get("ironic", {})
    return kept.get("owner") or node.labels.get("owner"), kept.get("lessee") or node.labels.get("lessee")


def missing(ident: str, status: int = 404) -> Refusal:
    """There is no such node."""
    return Refusal(status, f"Node {ident[:80]} could not be found.")


def stored(conn: Connection, ident: str) -> Node:
    """The node inside a write."""
    try:
        return nodes.get(conn, ident)
    except NotFound:
        raise missing(ident) from None


def page_of(rows: Sequence[dict[str, Any]], asked: Asked, name: str, key: str = "uuid") -> dict[str, Any]:
    """`limit` and `marker` over a list that is small: {name: entries, next}."""
    marker, limit = asked.query.get("marker"), asked.limit()
    start = 0
    if marker:
        known = [row[key] for row in rows]
        if marker not in known:
            raise Refusal(400, f"Marker {marker[:80]} could not be found.")
        start = known.index(marker) + 1
    chosen = list(rows[start : start + limit])
    doc: dict[str, Any] = {name: chosen}
    if len(rows) > start + limit:
        doc["next"] = next_link(asked, chosen[-1][key])
    return doc


def next_link(asked: Asked, marker: str) -> str:
    """Where the list goes on."""
    rest = {k: v for k, v in asked.query.items() if k != "marker"} | {"marker": marker}
    return f"{asked.base}{asked.scope['path']}?{urlencode(rest)}"


def only(doc: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    """These fields, and links."""
    if names is None:
        return doc
    unknown = [name for name in names if name not in doc]
    if unknown:
        raise Refusal(400, f"Field {', '.join(unknown)[:200]} is not a valid field.")
    return {name: doc[name] for name in (*names, "links") if name in doc}


def typed(what: str, body: dict[str, Any], types: dict[str, tuple[type, ...]], required: Sequence[str] = ()) -> None:
    """Only known members, each of its type (or null)."""
    for name in required:
        if name not in body:
            raise Refusal(400, f"Schema error for {what}: '{name}' is a required property")
    for name, value in list(body.items()):
        if types.get(name) == (bool,) and isinstance(value, str):
            value = body[name] = boolean(name, value)  # python-ironicclient sends "False"
        if name not in types:
            raise Refusal(
                400,
                f"Schema error for {what}: Additional properties are not allowed ('{name[:80]}' was unexpected)",
            )
        wanted = types[name]
        wrong = value is not None and (
            not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)
        )
        if wrong or (value is None and name in required):
            shown = "', '".join(_JSON[kind] for kind in wanted)
            raise Refusal(400, f"Schema error for {what}: {str(value)[:80]!r} is not of type '{shown}'")


_JSON = {str: "string", dict: "object", list: "array", bool: "boolean", int: "integer"}
