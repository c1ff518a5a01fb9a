"""Looks at the surroundings that `node validate` and `baremetal doctor` share. They change nothing."""

from __future__ import annotations

import contextlib
import ctypes
import io
import tempfile
import time
from pathlib import Path

from sqlalchemy.engine import Connection

from baremetal.store import events

OLDEST_CLOCK = 1_767_225_600  # 2026-01-01: nothing of ours is older
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
TIMEX_BYTES = 208  # struct timex of Linux
TFTP_TIMEOUT_S = 3.0
RIVAL_S = 900.0  # the boot plane asks every 300 s and tells a rival that stays every 600 s


def clock_is_kept() -> bool:
    """Does the kernel say that something (chrony, ntpd, timesyncd) keeps its clock right?"""
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if call is None:
        return False
    state = call(ctypes.create_string_buffer(TIMEX_BYTES))  # modes = 0: only look
    return state not in (-1, TIME_ERROR)


def fetch_by_tftp(server: str, port: int, name: str) -> tuple[bytes | None, float]:
    """(the file, seconds) as a firmware would get it, with tftpy's client; None when it does not come."""
    import logging

    import tftpy

    logging.getLogger("tftpy").setLevel(logging.CRITICAL)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "file"
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                tftpy.TftpClient(server, port, options={"blksize": 1428}).download(
                    name, str(target), timeout=TFTP_TIMEOUT_S, retries=2
                )
            return target.read_bytes(), time.monotonic() - started
        except (tftpy.TftpShared.TftpException, OSError):
            return None, time.monotonic() - started


def rivals_heard(conn: Connection, now: float) -> list[str]:
    """What the boot plane told of other DHCP servers lately."""
    told = events.since(conn, "server", now - RIVAL_S)
    found = [str(e.data.get("detail") or e.data) for e in told if "answers DHCP on" in str(e.data)]
    return list(dict.fromkeys(found))
