"""pyghmi's session with its known defects repaired, one by one and guarded.

Found and reproduced on pyghmi 1.6.19; `tests/contract/bmc/test_pyghmi_repairs.py`
fails when upstream heals one, so that the repair goes away too:

* two locks taken in opposite order: one lost datagram with several threads
  stops the process for ever -> both names become one re-entrant lock;
* a reply read before its caller waits is noticed only at the next retry timer
  -> look again after registering the waiter;
* relogins nest without end on a BMC that logs in and falls silent -> the
  session ends, at a deadline at the latest, and the link opens a new one;
* every login attempt has the same console id and tags, so that late answers are
  mixed up -> random ones;
* the reason of a failed login is lost (`None`) -> the stage is kept;
* in a login every thread wakes for every packet of every BMC and handles it
  under one lock: with 64 threads 500 logins cost three times the CPU -> a thread
  waits for its own BMC's packets and handles no others'.
"""

from __future__ import annotations

import collections
import random
import threading
import time
from importlib import metadata
from typing import Any

from pyghmi.exceptions import IpmiException
from pyghmi.ipmi.private import session as upstream

from baremetal.bmc.faults import BmcUnsupported

# A session that had to log in again this often within one command is given up.
MAX_RELOGS = 2


# What the repairs were written for and tested with; they reach into the module, so others are refused.
TESTED = ("1.6.",)


def check_version(found: str | None = None) -> None:
    """BmcUnsupported for a pyghmi that was never tested with these repairs."""
    found = found or metadata.version("pyghmi")
    if not found.startswith(TESTED):
        raise BmcUnsupported(
            f"pyghmi {found} was not tested with our repairs",
            detail=f"tested: {', '.join(TESTED)}x; unrepaired it can stop for ever",
            fix="drop ?driver=pyghmi: our own client needs none",
        )


def repair() -> None:
    """Repairs the module in place; safe to call twice, and a no-op where upstream has healed."""
    check_version()
    if upstream.KEEPALIVE_SESSIONS is not upstream.WAITING_SESSIONS:
        upstream.KEEPALIVE_SESSIONS = upstream.WAITING_SESSIONS
    if getattr(upstream._io_wait, "__module__", "") != __name__:
        upstream._io_wait = _io_wait
        # Only upstream's own event loop empties it, and nobody runs that any more.
        upstream.sessionqueue = collections.deque(maxlen=64)


def _io_wait(timeout: float, myaddr: Any = None, evq: Any = None) -> None:
    """pyghmi's wait, with one look for an answer that came before we waited."""
    event = threading.Event()
    if evq is not None:
        evq.append(event)
    deadline = timeout + upstream._monotonic_time()  # os.times(), not time.monotonic(): the IO thread compares with it
    upstream.ioqueue.append((deadline, event, myaddr))
    if _arrived(myaddr):
        return
    if deadline < upstream.selectdeadline:
        socket = upstream.iosockets[0]
        socket.sendto(b"\x01", (upstream.myself, socket.getsockname()[1]))
    # Never for ever: the IO thread sets the event at the deadline; if it has died, we notice.
    event.wait(max(0.0, timeout) + 5.0)


def _arrived(myaddr: Any) -> bool:
    if myaddr is None:
        return bool(upstream.sessionqueue)
    return any(found.pktqueue for found in list(upstream.Session.bmc_handlers.get(myaddr, {}).values()))


def _nothing(_: Any) -> None:
    """The login is waited for, not called back."""


class BoundedSession(upstream.Session):  # type: ignore[misc]
    """A session that ends at a deadline and says at which stage it failed.

    `give_up_at` is in time.monotonic() seconds; `ended_at_stage` is
    pyghmi's sessioncontext when the session broke.
    """

    give_up_at = float("inf")
    ended_at_stage: str | None = None
    error_text: str = ""
    heard = False
    relogs = 0

    def __init__(self, *who: Any, **more: Any) -> None:
        super().__init__(*who, **more, onlogon=_nothing)
        while self.logging and not self.broken:
            self._step()
        if self.broken:
            raise IpmiException(self.errormsg)

    def _step(self) -> None:
        """One wait of the login: packets of this BMC, or the time to send again."""
        known = [self.sockaddr] if self.sockaddr else self.allsockaddrs
        own = known[0] if len(known) == 1 else None
        left = self.expiration - upstream._monotonic_time()
        upstream._io_wait(left if own else min(left, 0.1), own)
        self.process_pktqueue()
        with upstream.util.protect(upstream.WAITING_SESSIONS):
            late = self in self.waiting_sessions and self.expiration < upstream._monotonic_time()
            if late:
                self.waiting_sessions.pop(self, None)
        if late:
            self._timedout()

    def renew(self, deadline_s: float) -> None:
        """A new command: so many seconds from now, and all relogins forgiven."""
        self.give_up_at = time.monotonic() + deadline_s
        self.relogs = 0

    def _initsession(self) -> None:
        super()._initsession()
        # Upstream begins every login with the same console id and tag: a late answer to the last try passes for one
        # to this try, and is called a wrong password.
        self.localsid = random.randrange(1, 1 << 31)
        self.rmcptag = random.randrange(1, 200)

    def _mark_broken(self, error: str | None = None) -> None:
        if self.ended_at_stage is None:
            self.ended_at_stage = str(self.sessioncontext)
            self.error_text = error or ""
        # It does not answer: a logout command would only wait for the old one to expire.
        self.incommand, self.logged = False, 0
        super()._mark_broken(error or "silent")

    def _timedout(self) -> None:
        if time.monotonic() > self.give_up_at:
            self._mark_broken()
            return
        super()._timedout()

    def _relog(self) -> Any:
        self.relogs += 1
        # A relogin inside a command nests another command: end the session instead, the link opens a new one.
        if self.sessioncontext == "ESTABLISHED" or self.relogs > MAX_RELOGS:
            self._mark_broken()
            return None
        return super()._relog()

    def _handle_ipmi_packet(self, data: Any, sockaddr: Any = None, qent: Any = None) -> Any:
        self.heard = True
        return super()._handle_ipmi_packet(data, sockaddr=sockaddr, qent=qent)
