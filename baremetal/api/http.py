"""Requests, replies and routes of the hot paths: plain ASGI, one small object each way. Opens no socket.

FastAPI serves /api, where OpenAPI and validation earn their cost; /v1 answers
thousands of polls a second and is made of this.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

from baremetal.protocol.doc import loads

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
T = TypeVar("T")
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

MAX_BODY = 8 * 1024 * 1024  # bytes; an import of 10,000 nodes has about 3 MB
JSON_TYPE = (b"content-type", b"application/json")


@dataclass(slots=True)
class Reply:
    """Status, headers and body."""

    status: int = 200
    body: bytes = b""
    headers: Headers = field(default_factory=list)


class BadRequest(Exception):
    """The request itself is not one: status, what is wrong, what to do."""

    def __init__(self, status: int, text: str, fix: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.fix = status, text, fix


def dumps(doc: Any) -> bytes:
    """Compact JSON."""
    return _encode(doc).encode()


def parse_json(raw: bytes) -> Any:
    """JSON of a bounded depth; BadRequest says what is wrong with it."""
    try:
        return loads(raw)
    except UnicodeError:
        raise BadRequest(400, "the body is not UTF-8", "encode it as UTF-8, without halves of surrogates") from None
    except (ValueError, RecursionError) as exc:
        raise BadRequest(400, f"the body is not JSON: {str(exc)[:120]}", "send valid JSON") from None


def header(scope: Scope, name: bytes) -> str | None:
    """One request header; names are lower case in ASGI."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


def query_of(scope: Scope) -> dict[str, str]:
    """The query; the last value of a name wins."""
    raw = scope.get("query_string") or b""
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=100)) if raw else {}


def base_of(scope: Scope) -> str:
    """http://host:port, as the client called us."""
    host = header(scope, b"host") or "localhost"
    if len(host) > 255 or not all(c.isalnum() or c in "-.:[]_" for c in host):
        raise BadRequest(400, "the Host header is not a host")
    return f"{scope.get('scheme', 'http')}://{host}"


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, at most MAX_BODY."""
    check_length(scope)
    message = await receive()
    body = bytes(message.get("body", b""))
    if not message.get("more_body"):
        return body
    chunks, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest(400, "the client went away in the middle of its request")
        chunks.append(bytes(message.get("body", b"")))
        size += len(chunks[-1])
        if size > MAX_BODY:
            raise BadRequest(413, f"the request body is larger than {MAX_BODY} bytes", "send less at once")
    return b"".join(chunks)


def check_length(scope: Scope) -> None:
    """No body without a sane length."""
    length = header(scope, b"content-length")
    if length is not None and (not length.isdecimal() or len(length) > 12 or int(length) > MAX_BODY):
        raise BadRequest(413, f"the request body is larger than {MAX_BODY} bytes", "send less at once")
    if header(scope, b"transfer-encoding"):
        raise BadRequest(411, "a request needs its Content-Length", "do not send it chunked")


async def send_reply(send: Send, reply: Reply) -> None:
    """Both ASGI messages."""
    headers = reply.headers
    if reply.status != 204:
        headers = [*headers, (b"content-length", str(len(reply.body)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


@dataclass(slots=True)
class _Place(Generic[T]):
    """One level of the path: literal children, the parameter child, and what stands here by method."""

    children: dict[str, _Place[T]] = field(default_factory=dict)
    any: _Place[T] | None = None
    here: dict[str, T] = field(default_factory=dict)


class Routes(Generic[T]):
    """Handlers by method and path pattern; `{}` is one segment. A literal segment wins over `{}`."""

    def __init__(self) -> None:
        self._root: _Place[T] = _Place()

    def add(self, method: str, pattern: str, handler: T) -> None:
        """`add("GET", "/nodes/{}", get)`"""
        place = self._root
        for part in pattern.strip("/").split("/"):
            if part == "{}":
                place.any = place.any or _Place()
                place = place.any
            else:
                place = place.children.setdefault(part, _Place())
        place.here[method] = handler

    def find(self, parts: list[str]) -> tuple[dict[str, T], list[str]] | None:
        """(handlers by method, values of the parameters) of a path, None when nothing is there."""
        return self._find(self._root, parts, 0, [])

    def _find(
        self, place: _Place[T], parts: list[str], at: int, values: list[str]
    ) -> tuple[dict[str, T], list[str]] | None:
        if at == len(parts):
            return (place.here, values) if place.here else None
        child = place.children.get(parts[at])
        if child is not None:
            found = self._find(child, parts, at + 1, values)
            if found is not None:
                return found
        if place.any is not None:
            return self._find(place.any, parts, at + 1, [*values, parts[at]])
        return None

    def patterns(self) -> list[tuple[str, str]]:
        """(method, pattern) of everything there is."""
        return sorted(_walk(self._root, ""))


def _walk(place: _Place[Any], path: str) -> list[tuple[str, str]]:
    found = [(method, path or "/") for method in place.here]
    for name, child in place.children.items():
        found += _walk(child, f"{path}/{name}")
    if place.any is not None:
        found += _walk(place.any, f"{path}/{{}}")
    return found
