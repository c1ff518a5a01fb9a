"""The API's client: standard library only, over the local unix socket or http(s) to --server."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from baremetal.cli import clean
from baremetal.errors import BaremetalError, Denied, MachineError, NotFound, Refused, TimedOut, Unreachable, UsageError

TIMEOUT_S = 30.0
CA_FIX = "BAREMETAL_CA_FILE=ca.pem, a copy of state_dir/tls/ca.pem of the server"
LONGEST_TARGET = 8000  # characters; the server reads request lines of 8 KiB
MAX_ANSWER = 256 << 20
_BY_STATUS: dict[int, type[BaremetalError]] = {
    400: UsageError,
    401: Denied,
    403: Denied,
    404: NotFound,
    406: UsageError,
    408: TimedOut,
    409: Refused,
    412: Refused,
    413: UsageError,
    422: UsageError,
    429: Unreachable,
    502: Unreachable,
    503: Unreachable,
    504: TimedOut,
}


class _Unix(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """`get`, `post`, `put`, `patch`, `delete`: JSON in, JSON out, errors as BaremetalError."""

    def __init__(self, server: str = "", socket_path: Path | None = None, token: str = "", ca_file: str = "") -> None:
        self._server, self._path, self._token, self._ca = server.rstrip("/"), socket_path, token, ca_file

    @classmethod
    def default(cls) -> Client:
        """As the environment and the configuration say."""
        from baremetal.config import Settings

        token = _token()
        server = os.environ.get("BAREMETAL_SERVER", "")
        if server:
            return cls(server, token=token, ca_file=os.environ.get("BAREMETAL_CA_FILE", ""))
        return cls(socket_path=Settings.load().api_socket)

    def get(self, path: str, **query: Any) -> Any:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.request("POST", path, body)

    def put(self, path: str, body: Any = None) -> Any:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any) -> Any:
        return self.request("PATCH", path, body)

    def delete(self, path: str, **query: Any) -> Any:
        return self.request("DELETE", path, query=query)

    def request(self, method: str, path: str, body: Any = None, *, query: Mapping[str, Any] | None = None) -> Any:
        """One request; the answer's JSON, its text when it is none, None when it is empty."""
        waits = float((query or {}).get("wait") or 0)
        with self._exchange(method, path, body, query, TIMEOUT_S + waits) as response:
            raw = response.read(MAX_ANSWER)
            if response.status >= 400:
                raise _error(response.status, raw, path)
            if not raw:
                return None
            if response.headers.get_content_type() != "application/json":
                return raw.decode(errors="replace")
            return json.loads(raw) if _exact(path) else clean.document(raw, json.loads(raw))

    def stream(self, path: str, **query: Any) -> Iterator[tuple[str, Any]]:
        """Server-sent events: (event, data) until the server ends it."""
        with self._exchange("GET", path, None, query, 60.0) as response:
            if response.status >= 400:
                raise _error(response.status, response.read(65536), path)
            event, data = "message", []
            for raw in response:
                line = raw.decode(errors="replace").rstrip("\r\n")
                if line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:"):
                    data.append(line[5:].strip())
                elif not line and data:
                    text = "\n".join(data)
                    yield event, json.loads(text) if _exact(path) else clean.document(text.encode(), json.loads(text))
                    event, data = "message", []

    @contextlib.contextmanager
    def _exchange(
        self, method: str, path: str, body: Any, query: Mapping[str, Any] | None, timeout: float
    ) -> Iterator[HTTPResponse]:
        known = {k: str(v) for k, v in (query or {}).items() if v is not None and v != ""}
        target = path + ("?" + urlencode(known) if known else "")
        if "" in path.split("/")[1:]:
            raise UsageError("a name is empty", fix="name what is meant")
        if len(target) > LONGEST_TARGET:
            raise UsageError(
                f"what was asked is too long for one request: {len(target)} characters", fix="a shorter --where or name"
            )
        headers = {"Accept": "application/json"}
        if not self._server:  # the socket is root's: who asked stands in the audit log by this word
            headers["X-Baremetal-User"] = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connection(timeout)
        try:
            connection.request(method, target, data, headers)
            yield connection.getresponse()
        except TimeoutError as exc:
            raise TimedOut(f"the server did not answer {method} {path} within {timeout:.0f} s") from exc
        except (OSError, HTTPException) as exc:
            raise self._away(exc) from exc
        finally:
            connection.close()

    def _connection(self, timeout: float) -> HTTPConnection:
        if not self._server:
            assert self._path is not None
            return _Unix(self._path, timeout)
        try:
            url = urlsplit(self._server)
        except ValueError as exc:
            raise UsageError(f"--server {self._server!r}: {exc}", fix="write it like https://host:6385") from exc
        if url.scheme == "https":
            import ssl

            try:
                context = ssl.create_default_context(cafile=self._ca or None)
            except OSError as exc:
                raise UsageError(f"BAREMETAL_CA_FILE {self._ca}: {exc}", fix=CA_FIX) from exc
            return HTTPSConnection(url.netloc, timeout=timeout, context=context)
        if url.scheme != "http" or not url.netloc:
            raise UsageError(f"--server {self._server!r} is no http(s) URL", fix="write it like https://host:6385")
        return HTTPConnection(url.netloc, timeout=timeout)

    def _away(self, exc: Exception) -> BaremetalError:
        where = self._server or str(self._path)
        if isinstance(exc, PermissionError):
            return Denied(
                f"may not open {where}", fix="use sudo, or a token with --server (see: baremetal api token --help)"
            )
        if isinstance(exc, FileNotFoundError | ConnectionRefusedError):
            return Unreachable(
                f"no server answers at {where}",
                fix="start it: systemctl start baremetal (or: baremetal serve); another place: --server, --config",
            )
        fix = "check the address and the way there; --server wants it like https://host:6385"
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            fix = CA_FIX
        elif isinstance(exc, RemoteDisconnected) and where.startswith("http://"):
            fix = f"it may speak TLS: --server https://{where.removeprefix('http://')}"
        return Unreachable(f"the server at {where} cannot be reached", detail=f"{type(exc).__name__}: {exc}", fix=fix)


def _exact(path: str) -> bool:
    """Values that are edited and sent back, and a live console, are taken as they are."""
    return ("/metadata" in path and not path.endswith("/metadata/status")) or path.endswith("/console/live")


def node_path(ref: str, *rest: str) -> str:
    """/api/nodes/<ref>/…, quoted."""
    if "/" in ref:  # a server takes %2F for a slash
        raise NotFound(f"no node {ref!r}", fix="baremetal node list")
    return "/".join(["/api/nodes", quote(ref, safe=""), *(quote(part, safe="") for part in rest)])


def _token() -> str:
    file = os.environ.get("BAREMETAL_TOKEN_FILE", "")
    if file:
        try:
            return Path(file).read_text().strip()
        except OSError as exc:
            raise UsageError(f"BAREMETAL_TOKEN_FILE {file}: {exc.strerror}") from exc
    return os.environ.get("BAREMETAL_TOKEN", "")


def _error(status: int, raw: bytes, path: str) -> BaremetalError:
    kind = _BY_STATUS.get(status, BaremetalError)
    if status >= 500 and not raw.startswith(b"{"):
        kind = Unreachable  # no answer of ours: it was stopped in the middle, or a proxy speaks for it
    try:
        doc = clean.document(raw, json.loads(raw))
        said = doc["error"]
        if said.get("code") == MachineError.code:
            kind = MachineError  # 503 as well, but it does answer: its machine lacks something
        error = kind(str(said["brief"]), detail=str(said.get("detail") or ""), fix=str(said.get("fix") or ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        fix = "see: baremetal status; the server's log says more (journalctl -u baremetal)"
        return kind(f"the server answered {status} to {path}", detail=raw[:500].decode(errors="replace"), fix=fix)
    error.__dict__["said_code"] = said.get("code", "")
    return error
