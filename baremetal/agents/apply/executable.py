"""Executable templates: the merged metadata on stdin, the file on stdout.

Bounded in time and size; run in a session of its own, so that what it leaves
behind after its time is over can be killed with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from typing import Optional, Tuple

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
    feeder = threading.Thread(target=_feed, args=(process, metadata), daemon=True)
    feeder.start()
    try:
        out, err = _listen(process, time.monotonic() + limit_s)
    except TimeoutError as exc:
        _kill(process)
        raise BadTemplate(f"template {path} takes longer than {limit_s:g} s") from exc
    except OverflowError as exc:
        _kill(process)
        raise BadTemplate(f"template {path} printed more than {MAX_OUTPUT} bytes") from exc
    if process.returncode != 0:
        raise BadTemplate(f"template {path} failed: {_status(process.returncode)}", detail=tail(err))
    return _utf8(out, path)


def _feed(process: "subprocess.Popen[bytes]", metadata: bytes) -> None:
    """It need not read all of it."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        assert process.stdin is not None
        process.stdin.write(metadata)
        process.stdin.close()


def _listen(process: "subprocess.Popen[bytes]", deadline: float) -> Tuple[bytes, bytes]:
    """All of stdout and the end of stderr; TimeoutError, or OverflowError when it says too much."""
    assert process.stdout is not None
    assert process.stderr is not None
    kept = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    out, err = kept.values()
    with selectors.DefaultSelector() as selector:
        for descriptor in kept:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                part = os.read(key.fd, 1 << 16)
                if not part:
                    selector.unregister(key.fd)
                kept[key.fd] += part
            del err[:-65536]
            if len(out) > MAX_OUTPUT:
                raise OverflowError
            if selector.get_map() and time.monotonic() >= deadline:
                raise TimeoutError
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as exc:
        raise TimeoutError from exc
    return bytes(out), bytes(err)


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
    process.wait()
