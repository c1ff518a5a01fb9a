"""One connection to a server: URLs, TLS, lines and bytes, and the head of an HTTP/1.1 answer.

Below agents/http.py, which is what others use.
"""

from __future__ import annotations

import socket
import ssl
from typing import Dict, NamedTuple, Optional, Tuple, Union

from baremetal.errors import Denied, Unreachable

MAX_LINE = 16 * 1024
MAX_HEADERS = 100


class ServerUnreachable(Unreachable):
    """No connection, or it broke in the middle of an answer."""

    code = "server-unreachable"


class BadAnswer(Unreachable):
    """What answered does not speak our protocol."""

    code = "server-bad-answer"


class ServerDistrusted(Denied):
    """What answered has no certificate of our CA for this address."""

    code = "server-untrusted"


class Url(NamedTuple):
    """An http or https address, taken apart. `target` is path and query."""

    secure: bool
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> "Url":
        """ValueError says what is wrong with it. Carries no credentials, by refusal."""
        scheme, sep, rest = text.partition("://")
        if not sep or scheme.lower() not in ("http", "https"):
            raise ValueError(f"not an http(s) URL: {text!r}")
        if any(c <= " " or c == "\x7f" for c in text) or not text.isascii():
            raise ValueError(f"blank or control character in URL {text!r}")
        netloc, slash, path = rest.partition("/")
        if "@" in netloc or "?" in netloc or "#" in text:
            raise ValueError(f"no credentials, bare queries or fragments in a URL: {text!r}")
        secure = scheme.lower() == "https"
        host, port = _split_port(netloc, 443 if secure else 80)
        return cls(secure, host, port, slash + path or "/")

    @property
    def netloc(self) -> str:
        """As the Host header wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


class Wire:
    """A socket with a read buffer."""

    def __init__(self, url: Url, tls: Optional[ssl.SSLContext], timeout_s: float) -> None:
        self.name = f"{url.host}:{url.port}"
        self.closed = False
        self._buffer = b""
        self._start = 0
        # As bytes where it can be: for a text Python imports its IDNA codec, a noticeable part of the way to hello.
        host = url.host.encode("ascii") if url.host.isascii() else url.host
        try:
            raw = socket.create_connection((host, url.port), timeout=timeout_s)  # type: ignore[arg-type]
        except OSError as exc:
            raise ServerUnreachable(f"{self.name} does not answer", detail=_reason(exc)) from exc
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket: Union[socket.socket, ssl.SSLSocket] = (
                raw if tls is None else tls.wrap_socket(raw, server_hostname=host)
            )
        except ssl.SSLCertVerificationError as exc:
            raw.close()
            raise ServerDistrusted(
                f"{self.name} is not the server this ramdisk was made for",
                detail=exc.verify_message or str(exc),
                fix="another server answers here, or its CA was replaced after the ramdisk was fetched: boot again",
            ) from exc
        except OSError as exc:
            raw.close()
            raise ServerUnreachable(f"{self.name}: TLS handshake failed", detail=_reason(exc)) from exc

    def settimeout(self, timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)

    def stale(self) -> bool:
        """Closed by the server (or talking out of turn) while we were not using it."""
        if self.closed or self._start < len(self._buffer):
            return True
        try:
            self._socket.settimeout(0)
            return bool(self._socket.recv(1) is not None)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as exc:
            raise ServerUnreachable(f"{self.name}: connection broke", detail=_reason(exc)) from exc

    def readinto(self, buffer: memoryview) -> int:
        if self._start < len(self._buffer):
            part = self._buffer[self._start : self._start + len(buffer)]
            self._start += len(part)
            buffer[: len(part)] = part
            return len(part)
        try:
            return self._socket.recv_into(buffer)
        except OSError as exc:
            self.close()
            raise ServerUnreachable(f"{self.name}: connection broke", detail=_reason(exc)) from exc

    def line(self) -> bytes:
        """The next line without its CRLF."""
        while True:
            end = self._buffer.find(b"\n", self._start)
            if end >= 0:
                text = self._buffer[self._start : end]
                self._start = end + 1
                return text[:-1] if text.endswith(b"\r") else text
            if len(self._buffer) - self._start > MAX_LINE:
                raise BadAnswer(f"{self.name}: a line longer than {MAX_LINE} bytes")
            self._fill()

    def close(self) -> None:
        self.closed = True
        self._socket.close()

    def _fill(self) -> None:
        try:
            more = self._socket.recv(16 * 1024)
        except OSError as exc:
            raise ServerUnreachable(f"{self.name}: no answer", detail=_reason(exc)) from exc
        if not more:
            raise ServerUnreachable(f"{self.name}: connection closed before the answer")
        self._buffer = self._buffer[self._start :] + more
        self._start = 0


def answer_head(wire: Wire) -> Tuple[int, Dict[str, str]]:
    while True:
        first = wire.line()
        parts = first.split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not (len(parts[1]) == 3 and parts[1].isdigit()):
            raise BadAnswer(f"{wire.name} does not speak HTTP/1", detail=repr(first[:80]))
        headers = _headers(wire)
        if not 100 <= int(parts[1]) < 200:  # 100 Continue and friends come before the answer
            return int(parts[1]), headers


def _headers(wire: Wire) -> Dict[str, str]:
    headers: Dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = wire.line()
        if not line:
            return headers
        name, colon, value = line.partition(b":")
        if not colon:
            raise BadAnswer(f"{wire.name}: bad header line", detail=repr(line[:80]))
        headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
    raise BadAnswer(f"{wire.name}: more than {MAX_HEADERS} headers")


def _split_port(netloc: str, default: int) -> Tuple[str, int]:
    if netloc.startswith("["):
        host, bracket, rest = netloc[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"bad address {netloc!r}")
        port_text = rest[1:]
    else:
        host, _, port_text = netloc.partition(":")
    if not host:
        raise ValueError("a URL needs a host")
    if not port_text:
        return host, default
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise ValueError(f"bad port {port_text!r}")
    return host, int(port_text)


def _reason(exc: OSError) -> str:
    return exc.strerror or str(exc) or type(exc).__name__
