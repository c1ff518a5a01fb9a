"""Bounds on rendering in this process: seconds, and bytes of memory.

A template that loops or grows must not take the agent with it. Time is a timer
signal (main thread only; elsewhere there is no bound), memory a soft limit on
the address space, put back afterwards.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
from typing import Any, Callable, Iterator

from baremetal.agents.apply.errors import BadTemplate

RENDER_S = 20.0
RENDER_BYTES = 768 * 1024 * 1024


class _OutOfTime(BaseException):
    """Not an Exception: no template engine may swallow it."""


@contextlib.contextmanager
def bounded(what: Callable[[], str], seconds: float = RENDER_S, size: int = RENDER_BYTES) -> Iterator[None]:
    """Run the body within these bounds, else BadTemplate says which was broken."""
    try:
        with _memory(size), _time(seconds):
            yield
    except _OutOfTime as exc:
        raise BadTemplate(f"{what()} takes longer than {seconds:g} s", fix="does it loop?") from exc
    except MemoryError as exc:
        raise BadTemplate(f"{what()} takes more than {size // 1024**2} MiB of memory") from exc


@contextlib.contextmanager
def _time(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ring(number: int, frame: Any) -> None:
    raise _OutOfTime


@contextlib.contextmanager
def _memory(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _address_space() + size
    if soft != resource.RLIM_INFINITY and soft <= wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Bytes of address space this process has now (proc(5), statm)."""
    with open("/proc/self/statm", "rb") as f:
        return int(f.read().split()[0]) * resource.getpagesize()
