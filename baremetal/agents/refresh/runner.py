"""Runs one script: bounded in time, its output passed through or its last lines kept.

Every script has a session of its own. When its time is over, it and everything
it started are killed; what a script that ended left running is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
import time
from typing import IO, Any, List, Mapping, NamedTuple, Optional

TAIL_BYTES = 8192
MARK = "BAREMETAL_SCRIPT_RUN"


class Outcome(NamedTuple):
    """How one script went. `exit`: its status, 128+signal, 127 when it does not start; `tail`: its last output."""

    exit: int
    seconds: float
    tail: str
    timed_out: bool = False


def run(path: str, env: Mapping[str, str], *, timeout_s: Optional[float] = None, keep: bool = False) -> Outcome:
    """Run it with empty stdin. `keep`: its output is for the tail; else it goes where ours goes."""
    begun = time.monotonic()
    mark = f"{os.getpid()}-{os.urandom(8).hex()}"
    sink = subprocess.PIPE if keep else None
    try:
        process = start(
            [path],
            env={**env, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT if keep else None,
            start_new_session=True,
        )
    except OSError as exc:
        return Outcome(127, time.monotonic() - begun, f"{path}: {exc.strerror}")
    collector = _Tail(process.stdout) if process.stdout is not None else None
    timed_out = False
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
        kill_all(process.pid, mark)
        process.wait()
    except BaseException:
        kill_all(process.pid, mark)
        process.wait()
        raise
    tail = collector.text() if collector is not None else ""
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return Outcome(code, time.monotonic() - begun, tail, timed_out)


def start(arguments: List[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Popen; a file that somebody is just writing (ETXTBSY) is tried again for half a second."""
    for pause in (0.02, 0.08, 0.4):
        try:
            return subprocess.Popen(arguments, **options)
        except OSError as exc:
            if exc.errno != errno.ETXTBSY:
                raise
            time.sleep(pause)
    return subprocess.Popen(arguments, **options)


def kill_all(session: int, mark: str) -> None:
    """SIGKILL to every process of this session or with this mark in its environment, until none is left.

    The mark finds also those that made a session of their own and lost their parent.
    """
    for _ in range(50):
        found = [pid for pid in _processes() if _session_of(pid) == session or _marked(pid, mark)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.01)


def _processes() -> List[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _session_of(pid: int) -> int:
    """The session of a living process, -1 for a zombie or when it is gone (proc(5): state ppid pgrp session)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] == b"Z" else int(fields[3])


def _marked(pid: int, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            return f"{MARK}={mark}".encode() in f.read().split(b"\0")
    except OSError:
        return False


class _Tail:
    """Keeps the last bytes of a pipe. Goes on draining it for what the script left running."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.buffer = b""
        self.thread = threading.Thread(target=self._drain, daemon=True)
        self.thread.start()

    def _drain(self) -> None:
        with self.pipe:
            while True:
                try:
                    more = os.read(self.pipe.fileno(), 65536)
                except OSError:
                    return
                if not more:
                    return
                self.buffer = (self.buffer + more)[-TAIL_BYTES:]

    def text(self) -> str:
        """The last lines; waits a moment for what is still in the pipe."""
        self.thread.join(0.2)
        return "\n".join(self.buffer.decode("utf-8", "replace").strip().splitlines()[-20:])
