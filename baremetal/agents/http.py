"""A small HTTP/1.1 client for the agents: pinned CA, bearer token, long polls, streams.

Not http.client: that pulls in the email package, which costs a second of boot
time on a slow machine. One connection, kept alive, reopened once when the
server closed it while idle. Follows no redirects, accepts no compression,
bounds everything it reads. Never listens.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, TypeVar

from baremetal.agents.wire import BadAnswer, ServerDistrusted, ServerUnreachable, Url, Wire, answer_head
from baremetal.errors import BaremetalError

__all__ = [
    "BadAnswer", "Client", "Response", "ServerDistrusted", "ServerSaid", "ServerUnreachable", "Stream", "Url",
    "jitter", "retrying",
]  # fmt: skip

MAX_BODY = 16 * 1024 * 1024  # bytes of an answer read whole; streams have no bound
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h; ssl has no name for it

T = TypeVar("T")


class ServerSaid(BaremetalError):
    """The server answered with an error; `status` and `server_code` are its words."""

    code = "server-refused"

    def __init__(self, status: int, server_code: str, brief: str, *, detail: str = "", fix: str = "") -> None:
        super().__init__(brief, detail=detail, fix=fix)
        self.status = status
        self.server_code = server_code


class Response(NamedTuple):
    """A whole answer. Header names in lower case."""

    status: int
    headers: Dict[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise BadAnswer("the server's answer is not JSON", detail=repr(self.body[:200])) from exc

    def expect(self, *statuses: int) -> "Response":
        """Itself when the status is one of these, else ServerSaid."""
        if self.status in statuses:
            return self
        raise _server_said(self)


class Stream:
    """An answer whose body is read by the caller: readinto() until it gives 0."""

    def __init__(self, wire: "Wire", status: int, headers: Dict[str, str], has_body: bool) -> None:
        self.status = status
        self.headers = headers
        self._wire = wire
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        if length is not None and not (length.isascii() and length.isdigit() and len(length) < 19):
            raise BadAnswer(f"the server's Content-Length is {length!r}")
        if not has_body:
            self._chunked, length = False, "0"
        self.length = None if self._chunked or length is None else int(length)
        self._left = 0 if self._chunked else self.length  # None: until the connection closes
        self._ended = self._left == 0 and not self._chunked
        self.reusable = self.length is not None or self._chunked
        if headers.get("connection", "").lower() == "close":
            self.reusable = False

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave: a connection with unread bytes is dropped."""
        if not (self._ended and self.reusable):
            self._wire.close()

    def readinto(self, buffer: memoryview) -> int:
        """Bytes put into `buffer`, 0 at the end; ServerUnreachable when cut short."""
        if self._ended or len(buffer) == 0:
            return 0
        if self._chunked and self._left == 0 and not self._next_chunk():
            return 0
        want = len(buffer) if self._left is None else min(len(buffer), self._left)
        got = self._wire.readinto(buffer[:want])
        if got == 0 and self._left is not None:
            raise ServerUnreachable(
                f"{self._wire.name}: connection closed in mid-answer", detail=f"{self._left} bytes short"
            )
        if got == 0:
            self._ended = True
        elif self._left is not None:
            self._left -= got
            self._ended = self._left == 0 and not self._chunked
            if self._chunked and self._left == 0:
                self._wire.line()  # the CRLF after the chunk
        return got

    def read_all(self, limit: int = MAX_BODY) -> bytes:
        """The rest of the body; BadAnswer beyond `limit` bytes."""
        parts: List[bytes] = []
        total = 0
        buffer = memoryview(bytearray(min(64 * 1024, (self._left or 64 * 1024) + 1)))
        while True:
            got = self.readinto(buffer)
            if got == 0:
                return b"".join(parts)
            total += got
            if total > limit:
                self._wire.close()
                raise BadAnswer(f"{self._wire.name}: the answer is longer than {limit} bytes")
            parts.append(bytes(buffer[:got]))

    def _next_chunk(self) -> bool:
        size_text = self._wire.line().partition(b";")[0].strip()
        if not 0 < len(size_text) <= 8 or any(c not in b"0123456789abcdefABCDEF" for c in size_text):
            raise BadAnswer(f"{self._wire.name}: bad chunk size {size_text[:20]!r}")
        self._left = int(size_text, 16)
        if self._left:
            return True
        while self._wire.line():
            pass  # trailers
        self._ended = True
        return False


class Client:
    """Talks to one server. Not for several threads at once.

    `ca_file` or `ca_pem` is the only trust anchor. `check_time=False` leaves
    the certificate's dates out of the check: a machine whose clock battery is
    dead must still reach the server that knows the time.
    """

    def __init__(
        self,
        base_url: str,
        *,
        ca_file: Optional[str] = None,
        ca_pem: Optional[str] = None,
        token: Optional[str] = None,
        timeout_s: float = 10.0,
        check_time: bool = True,
        agent: str = "baremetal-agent",
    ) -> None:
        self.base = Url.parse(base_url)
        self.token = token
        self.timeout_s = timeout_s
        self._agent = agent
        self._wire: Optional[Wire] = None
        self._tls: Optional[ssl.SSLContext] = None
        if self.base.secure:
            self._tls = tls_context(ca_file, ca_pem, check_time)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Optional[bytes] = None,
        headers: Optional[Dict[str, str]] = None,
        timeout_s: Optional[float] = None,
        limit: int = MAX_BODY,
    ) -> Response:
        """One exchange, read whole. Raises only when there is no proper answer."""
        with self.stream(method, path, body=body, headers=headers, timeout_s=timeout_s) as answer:
            return Response(answer.status, answer.headers, answer.read_all(limit))

    def stream(
        self,
        method: str,
        path: str,
        *,
        body: Optional[bytes] = None,
        headers: Optional[Dict[str, str]] = None,
        timeout_s: Optional[float] = None,
    ) -> Stream:
        """One exchange whose body the caller reads. `timeout_s` bounds every single wait for bytes."""
        head = self._head(method, path, body, headers or {})
        timeout = self.timeout_s if timeout_s is None else timeout_s
        fresh = self._wire is None or self._wire.stale()
        if fresh:
            self.close()
        try:
            return self._exchange(method, head, body, timeout)
        except ServerUnreachable:
            if fresh:
                raise
            # The server closed a kept-alive connection while we were not looking: once more, on a new one.
            self.close()
            return self._exchange(method, head, body, timeout)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _exchange(self, method: str, head: bytes, body: Optional[bytes], timeout: float) -> Stream:
        if self._wire is None or self._wire.closed:
            self._wire = Wire(self.base, self._tls, min(timeout, self.timeout_s))
        wire = self._wire
        try:
            wire.settimeout(timeout)
            wire.send(head + (body or b""))
            status, headers = answer_head(wire)
            return Stream(wire, status, headers, method != "HEAD" and status not in (204, 304))
        except BaseException:
            wire.close()
            raise

    def _head(self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str]) -> bytes:
        if not path.startswith("/") or any(c <= " " or c > "~" for c in path):
            raise ValueError(f"not a request path: {path!r}")
        fields = {"Host": self.base.netloc, "User-Agent": self._agent, "Accept-Encoding": "identity"}
        if self.token:
            fields["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            fields["Content-Type"] = "application/json"
            fields["Content-Length"] = str(len(body))
        fields.update(headers)
        lines = [f"{method} {path} HTTP/1.1"] + [f"{k}: {v}" for k, v in fields.items()]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header has a line break")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def tls_context(ca_file: Optional[str], ca_pem: Optional[str], check_time: bool) -> ssl.SSLContext:
    """TLS 1.2 or later, our CA and nothing else, the address must be in the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not ca_file and not ca_pem:
        raise ValueError("https needs the CA it may trust")
    try:
        context.load_verify_locations(cafile=ca_file, cadata=ca_pem)
    except (OSError, ssl.SSLError) as exc:
        raise ServerDistrusted(
            f"no usable CA certificate in {ca_file or 'the given text'}",
            detail=str(exc),
            fix="the server puts its CA in front of the ramdisk: check its log for 'trust anchors'",
        ) from exc
    if not check_time:
        context.verify_flags |= NO_CHECK_TIME
    return context


def retrying(
    call: Callable[[], T],
    *,
    for_s: Optional[float] = None,
    first_s: float = 0.3,
    longest_s: float = 10.0,
    on_wait: Optional[Callable[[Exception, float], None]] = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """call() until it works, while the server is away or busy (503, 429, 502, 504).

    Waits double from `first_s` to `longest_s`, each times a random 0.5 to 1.0, so
    that a rack does not knock in step. `for_s` None: for ever. Anything that
    waiting cannot heal is raised at once.
    """
    started = clock()
    pause = first_s
    while True:
        try:
            return call()
        except (ServerUnreachable, ServerSaid) as exc:
            if isinstance(exc, ServerSaid) and exc.status not in (429, 502, 503, 504):
                raise
            wait = pause * jitter()
            if for_s is not None and clock() - started + wait > for_s:
                raise
            if on_wait is not None:
                on_wait(exc, wait)
            sleep(wait)
            pause = min(pause * 2, longest_s)


def jitter() -> float:
    """A random factor from 0.5 to 1.0 (the random module is slow to import)."""
    return 0.5 + os.urandom(1)[0] / 510


def _server_said(response: Response) -> ServerSaid:
    """Its own words when it sent the error document of protocol/agent.py."""
    error: Dict[str, Any] = {}
    try:
        doc = json.loads(response.body)
        if isinstance(doc, dict) and isinstance(doc.get("error"), dict):
            error = doc["error"]
    except (ValueError, RecursionError):
        pass
    brief = str(error.get("brief") or f"the server answered {response.status}")
    detail = str(error.get("detail") or "" if error else repr(response.body[:200]))
    return ServerSaid(
        response.status,
        str(error.get("code", "")),
        brief[:500],
        detail=detail[:2000],
        fix=str(error.get("fix", ""))[:500],
    )
