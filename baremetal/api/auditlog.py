"""The audit log: every request that is not a mere look, and every refusal, one JSON line each. Append-only.

    {"time", "who", "role", "from", "method", "path", "node", "status", "ms"}

Bodies are never in it: they may hold secrets. What a verb was asked with is in
the node's events. The file grows to MOST_BYTES, then becomes audit.jsonl.1 and so on.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from baremetal.api.http import App, Receive, Scope, Send, header
from baremetal.api.projects import node_in

log = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024 * 1024
KEPT = 10  # files
LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSED = frozenset({401, 403, 429})


class AuditLog:
    """One file, written by the control process only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._size = 0

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line. A disk that is full must not stop the server: then the log says so."""
        data = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        try:
            if self._fd is None or self._size + len(data) > MOST_BYTES:
                self._open()
            assert self._fd is not None
            os.write(self._fd, data)
            self._size += len(data)
        except OSError as exc:
            log.error("the audit log %s cannot be written: %s; lost: %s", self.path, exc, data[:500])

    def _open(self) -> None:
        self.close()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size >= MOST_BYTES:
            for number in range(KEPT - 1, 0, -1):
                older = self.path.with_name(f"{self.path.name}.{number}")
                if older.exists():
                    older.rename(self.path.with_name(f"{self.path.name}.{number + 1}"))
            self.path.rename(self.path.with_name(f"{self.path.name}.1"))
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def close(self) -> None:
        """The next write opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def newest(self, limit: int, **wanted: str) -> list[dict[str, Any]]:
        """The newest entries with these members (`node` by name or id as it was asked), oldest first."""
        found: list[dict[str, Any]] = []
        for line in self._backwards():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a line cut short by a crash
            if all(str(entry.get(key)) == value for key, value in wanted.items()):
                found.append(entry)
                if len(found) >= limit:
                    break
        return found[::-1]

    def _backwards(self) -> Iterator[bytes]:
        for path in (self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, KEPT + 1))):
            if path.exists():
                yield from reversed(path.read_bytes().splitlines())


class Audited:
    """ASGI: stands before everything else, guard included."""

    def __init__(self, app: App, audit: AuditLog) -> None:
        self._app, self._audit = app, audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, status = time.monotonic(), 500

        async def heard(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, heard)
        finally:
            if scope["method"] not in LOOKS or status in REFUSED:
                self._audit.write(_entry(scope, status, began))


def _entry(scope: Scope, status: int, began: float) -> dict[str, Any]:
    path = str(scope["path"])[:300]
    return {
        "time": round(time.time(), 3),
        "who": str(scope.get("baremetal.user") or header(scope, b"x-baremetal-user") or "")[:80],
        "role": scope.get("baremetal.role") or "",
        "from": str((scope.get("client") or ("?",))[0]),
        "method": scope["method"],
        "path": path,
        "node": str(scope.get("baremetal.node") or node_in(path) or "")[
            :300
        ],  # of a new node its handler says the name
        "status": status,
        "ms": round((time.monotonic() - began) * 1000),
    }
