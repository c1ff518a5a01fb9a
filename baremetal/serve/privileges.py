"""Rights of a server process: what it has, and giving up all but the few it keeps.

capset(2) changes the calling thread only, so `drop` is called before any thread
exists. Run as root without a user to change to, a process stays uid 0 but loses
every capability: it owns root's files and may do nothing else that root may.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import signal
from collections.abc import Iterable

from baremetal.errors import MachineError, UsageError

CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW = 10, 12, 13
NAMES = {CAP_NET_BIND_SERVICE: "NET_BIND_SERVICE", CAP_NET_ADMIN: "NET_ADMIN", CAP_NET_RAW: "NET_RAW"}

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 1, 4, 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 23, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def effective() -> frozenset[int]:
    """Numbers of the capabilities that this process has now."""
    return _mask("CapEff")


def die_with_parent(parent: int) -> None:
    """Get SIGTERM when the supervisor dies. Again after every change of user: the kernel forgets it then."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def no_core() -> None:
    """No core dump, no ptrace by others of our user: keys are in this memory."""
    _prctl(_PR_SET_DUMPABLE, 0)


def drop(user: str, keep: Iterable[int] = ()) -> frozenset[int]:
    """Become `user` (empty: stay) with at most the capabilities `keep`; returns what is left."""
    wanted = frozenset(keep) & _mask("CapPrm")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    account = _account(user)
    _bound(wanted)
    if account is not None and os.geteuid() == 0:
        _prctl(_PR_SET_KEEPCAPS, 1)
        groups = [g.gr_gid for g in grp.getgrall() if account.pw_name in g.gr_mem]
        os.setgroups([account.pw_gid, *groups])
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _capset(wanted)
    left = effective()
    if left - wanted:
        raise MachineError("could not give up root's rights", detail=f"still there: {_said(left - wanted)}")
    return left


def _said(caps: frozenset[int]) -> str:
    return ", ".join(NAMES.get(cap, str(cap)) for cap in sorted(caps)) or "none"


def describe(left: frozenset[int]) -> str:
    """For the log: who we are now."""
    return f"uid {os.geteuid()}, capabilities: {_said(left)}"


def _account(user: str) -> pwd.struct_passwd | None:
    if not user:
        return None
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise UsageError(
            f"there is no user {user!r} to run as",
            fix=f"create it (adduser --system --group {user}), or clear user and boot_user in the configuration",
        ) from None


def _bound(keep: frozenset[int]) -> None:
    """Nothing that we start can get more either. Needs CAP_SETPCAP; without it there is less to lose."""
    for cap in range(64):
        if cap in keep or _libc.prctl(_PR_CAPBSET_READ, cap, 0, 0, 0) != 1:
            continue
        _libc.prctl(_PR_CAPBSET_DROP, cap, 0, 0, 0)


def _capset(caps: frozenset[int]) -> None:
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    for cap in caps:
        data[cap // 32].effective |= 1 << (cap % 32)
        data[cap // 32].permitted |= 1 << (cap % 32)
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise MachineError("could not set capabilities", detail=os.strerror(ctypes.get_errno()))


def _mask(field: str) -> frozenset[int]:
    with open("/proc/thread-self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                bits = int(line.split()[1], 16)
                return frozenset(n for n in range(64) if bits >> n & 1)
    return frozenset()


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise MachineError(f"prctl({option}) failed", detail=os.strerror(ctypes.get_errno()))
