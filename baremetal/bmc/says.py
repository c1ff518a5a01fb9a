"""How a failed IPMI login is told to people: one cause, one sentence, one way out. Used by both IPMI links."""

from __future__ import annotations

from baremetal.bmc import rakp
from baremetal.bmc.faults import BmcAuth, BmcBusy, BmcCipher, BmcError, BmcPrivilege, BmcProtocol, BmcTimeout
from baremetal.bmc.link import Login

_AUTH = {
    "user": "BMC does not know this user",
    "password": "BMC refuses the password",
    "kg": "BMC refuses the K_g key",
}


def auth(host: str, cause: str, detail: str) -> BmcAuth:
    """Wrong credentials; `cause` is user, password or kg."""
    fix = "correct user and password; not tried again by itself, so that no account gets locked"
    if cause == "kg":
        fix = "give the BMC's K_g (two-key login) with --kg-file, or clear it on the BMC"
    return BmcAuth(f"{host}: {_AUTH[cause]}", detail=detail, fix=fix, cause=cause, stage="rakp")


def no_privilege(host: str, detail: str) -> BmcPrivilege:
    return BmcPrivilege(
        f"{host}: the account may not log in with that privilege",
        detail=detail,
        fix="give it the administrator role on the LAN channel, or add ?privilege=operator to the address",
        stage="rakp",
    )


def no_session(host: str, detail: str) -> BmcBusy:
    return BmcBusy(
        f"{host}: BMC has no free session",
        detail=detail,
        fix="wait a minute for old sessions to end",
        cause="sessions",
        stage="open-session",
    )


def no_cipher(host: str, detail: str) -> BmcCipher:
    return BmcCipher(
        f"{host}: no cipher suite in common",
        detail=detail,
        fix="allow suite 17 or 3 on the BMC; weaker ones are not used",
        stage="open-session",
    )


def downgrade(host: str, suite: int) -> BmcCipher:
    return BmcCipher(
        f"{host}: BMC no longer accepts cipher suite {suite}, which it had accepted before",
        detail="a weaker suite is not tried silently",
        fix="find out who changed it; to accept suite 3, write ?cipher=3 into the address",
        cause="downgrade",
        stage="open-session",
    )


def went_silent(host: str, stage: str) -> BmcTimeout:
    return BmcTimeout(
        f"{host}: BMC fell silent during the login",
        detail=f"it answered at first; last stage: {stage}",
        fix="wait and try again; if it stays so, restart the BMC",
        cause="handshake",
        stage=stage,
    )


def out_of_step(host: str, detail: str) -> BmcProtocol:
    """RAKP 4 says our code is wrong though its own proved the password right: a repeated message overtook another."""
    return BmcProtocol(f"{host}: login out of step", detail=detail, fix="try again", cause="handshake", stage="rakp")


def rejected(host: str, exc: rakp.Reject, login: Login) -> BmcError:
    """The error for a login the BMC refused, or that failed a check of ours."""
    detail = f"{exc} ({exc.stage})"
    if exc.ours == "password":
        return auth(host, "password", "its answer was made with another password (RAKP 2)")
    if exc.ours == "kg":
        return auth(host, "kg", "its answer was made with another key (RAKP 4)")
    if exc.status in rakp.NO_SUITE:
        return no_cipher(host, detail)
    if exc.status in rakp.NO_SESSION:
        return no_session(host, detail)
    if exc.status in rakp.NO_PRIVILEGE:
        return no_privilege(host, detail)
    if exc.status in rakp.NO_USER:
        return auth(host, "user", detail)
    if exc.status == 0x0F:
        return out_of_step(host, detail)
    return BmcProtocol(f"{host}: login refused", detail=detail, stage=exc.stage, fix="try again")
