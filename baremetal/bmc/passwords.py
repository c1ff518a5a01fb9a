"""Changes an account's password and proves the new one by logging in with it.

IPMI stores 16 or 20 bytes; some firmware says yes to 20 and keeps 16. One login
with the new password tells, a second one with its first 16 bytes tells why; never
more, so that no account gets locked.
"""

from __future__ import annotations

from dataclasses import replace

from baremetal.bmc.base import BmcDriver
from baremetal.bmc.drivers import driver
from baremetal.bmc.faults import BmcAuth, BmcError, BmcLied, BmcPrivilege
from baremetal.bmc.url import BmcUrl
from baremetal.errors import UsageError

SHORT, LONG = 16, 20
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"


def random_password(length: int = LONG) -> str:
    """Letters and digits that are not mistaken for one another; 20 of them hold 115 bits, 16 hold 92."""
    import secrets

    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def checked(url: BmcUrl, new: str) -> bytes:
    """The new password as the wire carries it; UsageError when this kind of BMC cannot have it."""
    raw = new.encode("utf-8", "surrogateescape")
    if not raw:
        raise UsageError("the new password is empty", fix="an account without a password is open to everybody")
    if url.scheme in ("ipmi", "auto") and len(raw) > LONG:
        raise UsageError(f"the new password has {len(raw)} bytes", fix=f"IPMI passwords have at most {LONG}")
    if b"\0" in raw:
        raise UsageError("the new password holds a zero byte", fix="BMCs end a password there; choose another one")
    return raw


async def change(url: BmcUrl, bmc: BmcDriver, user: str, new: str, kg: str | None = None) -> dict[str, object]:
    """Sets it, logs in with it, and says how many bytes count; BmcLied when the new one does not log in."""
    user = user or url.user
    raw = checked(url, new)
    await bmc.set_password(user, raw)
    if await _opens(url, user, new, kg):
        return {"password": "changed", "user": user, "proved": True}
    kept = raw[:SHORT].decode("utf-8", "surrogateescape")
    if len(raw) > SHORT and await _opens(url, user, kept, kg):
        raise BmcLied(
            f"{url.netloc}: BMC keeps only the first {SHORT} bytes of the password",
            detail=f"it said yes to {len(raw)} bytes; the first {SHORT} log in, all {len(raw)} do not",
            fix=f"set one of at most {SHORT} bytes now",
            cause="password-cut",
            stage="read-back",
        )
    raise BmcLied(
        f"{url.netloc}: new password accepted but it does not log in",
        detail=f"user {user}; the old password may still be in force",
        fix="look at the accounts: baremetal bmc users; then try again",
        cause="password",
        stage="read-back",
    )


async def _opens(url: BmcUrl, user: str, password: str, kg: str | None) -> bool:
    """One login with it. An account that may not ask for the power state has logged in all the same."""
    if url.scheme in ("fake", "manual"):
        return True
    bmc = driver(replace(url, user=user), password, kg)
    try:
        await bmc.power()
    except BmcAuth:
        return False
    except BmcPrivilege:
        return True
    finally:
        await _closed(bmc)
    return True


async def _closed(bmc: BmcDriver) -> None:
    try:
        await bmc.close()
    except BmcError:
        return
