"""The lab's control socket: JSON lines over a unix socket in the state directory.

Network namespaces do not hide a unix socket's file, so any shell finds the lab
by its state directory; the kernel tells the asker the pid behind it, in the
asker's own numbers, which is all nsenter needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from baremetal.errors import (
    BaremetalError,
    Denied,
    MachineError,
    NotFound,
    Refused,
    TimedOut,
    Unreachable,
    UsageError,
)
from baremetal.lab.console import near

SOCKET = "lab.sock"

#: What a refusal is raised as on this side.
_KINDS = {kind.code: kind for kind in (UsageError, NotFound, Refused, Denied, Unreachable, TimedOut, MachineError)}

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Control:
    """Serves `{"do": verb, …}`, one JSON document a line, with one answer line each.

    An answer has "ok"; a refusal carries brief, detail, fix and code.
    """

    def __init__(self, state_dir: Path, handlers: dict[str, Handler]) -> None:
        self.path = state_dir / SOCKET
        self.handlers = handlers
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Control:
        self.path.unlink(missing_ok=True)
        with near(self.path) as short:
            self._server = await asyncio.start_unix_server(self._client, short)
        self.path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            handler = self.handlers[request["do"]]
        except (ValueError, KeyError, TypeError):
            known = ", ".join(sorted(self.handlers))
            return {"ok": False, "code": "usage", "brief": "not understood", "detail": "", "fix": f"known: {known}"}
        try:
            return {"ok": True, **await handler(request)}
        except BaremetalError as exc:
            return {"ok": False, "code": exc.code, "brief": exc.brief, "detail": exc.detail, "fix": exc.fix}


def connect(state_dir: Path, timeout_s: float = 10.0) -> socket.socket:
    """A connection to the lab of this state directory, or NotFound."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        with near(state_dir / SOCKET) as short:
            sock.connect(short)
        _of_ours(sock, state_dir)
    except PermissionError as exc:
        sock.close()
        raise Denied(f"the lab in {state_dir} is not yours", fix="ask as root: sudo") from exc
    except OSError as exc:
        sock.close()
        raise NotFound(
            f"no lab runs in {state_dir}", detail=exc.strerror or str(exc), fix="start one: baremetal lab up"
        ) from exc
    return sock


def _of_ours(sock: socket.socket, state_dir: Path) -> None:
    """Denied when another user answers: `lab exec` would run that user's programs, in that user's world, as us."""
    _, uid, _ = _peer(sock)
    if uid not in (0, os.geteuid()):
        sock.close()
        raise Denied(
            f"what answers in {state_dir} is user {uid}'s, no lab of ours",
            fix="choose a directory of your own: --state-dir",
        )


def _peer(sock: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of who listens, in our own numbers."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", credentials)
    return pid, uid, gid


def ask(state_dir: Path, request: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
    """One question to the lab; its refusal is raised here."""
    with connect(state_dir, timeout_s) as sock, sock.makefile("rwb") as stream:
        try:
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()
            line = stream.readline()
        except TimeoutError as exc:
            raise TimedOut(f"the lab did not answer in {timeout_s:.0f} s", fix="baremetal lab down") from exc
        except OSError:
            line = b""  # it died while we spoke
    if not line:
        raise NotFound(f"no lab runs in {state_dir}: it ended just now", fix="start it again: baremetal lab up")
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        kind = _KINDS.get(answer.get("code", ""), BaremetalError)
        raise kind(answer.get("brief", "refused"), detail=answer.get("detail", ""), fix=answer.get("fix", ""))
    return answer


def pid(state_dir: Path) -> int:
    """The process that serves the lab, in our own pid namespace: what nsenter takes."""
    with connect(state_dir) as sock:
        return _peer(sock)[0]
