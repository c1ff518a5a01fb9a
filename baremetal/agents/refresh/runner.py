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
from typing import IO, Any, List, Mapping, NamedTuple, Optional, Set

TAIL_BYTES = 8192


class Outcome(NamedTuple):
    """How one script went. `exit`: its status, 128+signal, 127 when it does not start; `tail`: its last output."""

    exit: int
    seconds: float
    tail: str
    timed_out: bool = False


def run(path: str, env: Mapping[str, str], *, timeout_s: Optional[float] = None, keep: bool = False) -> Outcome:
    """Run it with empty stdin. `keep`: its output is for the tail; else it goes where ours goes."""
    begun = time.monotonic()
    sink = subprocess.PIPE if keep else None
    try:
        process = start(
            [path],
            env=dict(env),
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
        kill_all(process.pid)
        process.wait()
    except BaseException:
        kill_all(process.pid)
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


def kill_all(session: int) -> None:
    """SIGKILL to every process of this session and every descendant of its leader, until none is left."""
    for _ in range(20):
        found = _family(session)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.01)


def _family(session: int) -> Set[int]:
    parents = {}
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                fields = f.read().rpartition(b")")[2].split()  # state ppid pgrp session … (proc(5))
        except OSError:
            continue
        if fields[0] == b"Z":
            continue
        parents[int(name)] = int(fields[1])
        if int(fields[3]) == session:
            found.add(int(name))
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if pid not in found and (parent in found or parent == session)}
        found |= more
        grown = bool(more)
    return found


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
