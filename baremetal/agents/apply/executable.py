"""Executable templates: the merged metadata on stdin, the file on stdout.

Bounded in time and size; run in a session of its own, so that what it leaves
behind after its time is over can be killed with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Optional

from baremetal.agents.apply.errors import BadTemplate
from baremetal.agents.refresh.runner import start

TIMEOUT_S = 300.0
MAX_OUTPUT = 64 * 1024 * 1024


def run(path: str, metadata: bytes, *, timeout_s: Optional[float] = None) -> bytes:
    """The file it prints; BadTemplate has its status and the end of its stderr."""
    limit_s = TIMEOUT_S if timeout_s is None else timeout_s
    try:
        process = start(
            [os.path.abspath(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as exc:
        raise BadTemplate(f"template {path} is executable but does not start", detail=str(exc)) from exc
    try:
        out, err = process.communicate(metadata, timeout=limit_s)
    except subprocess.TimeoutExpired as exc:
        _kill(process)
        raise BadTemplate(f"template {path} takes longer than {limit_s:g} s") from exc
    if process.returncode != 0:
        raise BadTemplate(f"template {path} failed: {_status(process.returncode)}", detail=tail(err))
    if len(out) > MAX_OUTPUT:
        raise BadTemplate(f"template {path} printed more than {MAX_OUTPUT} bytes")
    return _utf8(out, path)


def tail(output: bytes, lines: int = 20) -> str:
    """The last lines, as text, at most 4,000 characters."""
    return "\n".join(output[-16384:].decode("utf-8", "replace").strip().splitlines()[-lines:])[-4000:]


def _utf8(out: bytes, path: str) -> bytes:
    try:
        out.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BadTemplate(f"template {path} printed something that is not UTF-8", detail=str(exc)) from exc
    return out


def _status(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"killed by signal {-code}"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
