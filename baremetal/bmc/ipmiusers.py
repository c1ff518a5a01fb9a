"""Accounts of an IPMI BMC (IPMI 2.0 §22.26 to §22.30)."""

from __future__ import annotations

from collections.abc import Sequence

from baremetal.bmc.base import User
from baremetal.bmc.faults import BmcRefused
from baremetal.bmc.link import APP, IpmiBmc

PRIVILEGE = {1: "callback", 2: "user", 3: "operator", 4: "administrator", 5: "oem", 15: "none"}
CHANNEL = 0x0E


async def read(bmc: IpmiBmc) -> Sequence[User]:
    """Every slot that has a name or is enabled. Slot 1 is the anonymous user."""
    first = await bmc.ask("list its users", APP, 0x44, bytes([CHANNEL, 1]), least=4)
    found = []
    for slot in range(1, min(first[0] & 0x3F, 63) + 1):
        access = await bmc.link.command(APP, 0x44, bytes([CHANNEL, slot]))
        if access.code or len(access.data) < 4:
            continue
        name = await _name(bmc, slot)
        privilege = access.data[3] & 15
        # Byte 2, bits 7:6: 01b enabled, 10b disabled, 00b not told (errata of IPMI 2.0); then the privilege tells.
        status = access.data[1] >> 6
        enabled = status == 1 if status else privilege in range(1, 6)
        if name or enabled:
            found.append(User(str(slot), name, PRIVILEGE.get(privilege, str(privilege)), enabled))
    return found


async def _name(bmc: IpmiBmc, slot: int) -> str:
    answer = await bmc.link.command(APP, 0x46, bytes([slot]))
    if answer.code:
        return ""
    return answer.data[:16].split(b"\x00")[0].decode("utf-8", "surrogateescape")


async def set_password(bmc: IpmiBmc, user: str, password: bytes) -> None:
    """Sets a password of up to 20 bytes; those longer than 16 go as 20-byte passwords."""
    if len(password) > 20:
        raise BmcRefused(
            f"{bmc.host}: IPMI passwords have at most 20 bytes",
            detail=f"this one has {len(password)}",
            fix="choose a shorter one",
        )
    for known in await read(bmc):
        if known.name == user:
            break
    else:
        raise BmcRefused(
            f"{bmc.host}: no user of that name", detail="looked through all slots", fix="see: baremetal bmc users"
        )
    size, flag = (20, 0x80) if len(password) > 16 else (16, 0)
    request = bytes([int(known.slot) | flag, 2]) + password.ljust(size, b"\x00")
    await bmc.ask("change the password", APP, 0x47, request)


async def with_password(bmc: IpmiBmc, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Enabled users that have one of these passwords, by "test password" (§22.30): an administrator's question.

    It is no login and counts as none. BmcRefused when this BMC has no such test.
    """
    wanted = {(user, secret.encode("utf-8", "surrogateescape")) for user, secret in pairs}
    found = []
    for known in await read(bmc):
        for user, secret in wanted:
            if user == known.name and known.enabled and await _has(bmc, int(known.slot), secret):
                found.append(user)
    return found


async def _has(bmc: IpmiBmc, slot: int, secret: bytes) -> bool:
    if len(secret) > 20:
        return False
    size, flag = (20, 0x80) if len(secret) > 16 else (16, 0)
    answer = await bmc.link.command(APP, 0x47, bytes([slot | flag, 3]) + secret.ljust(size, b"\x00"))
    if answer.code in (0x80, 0x81):  # wrong password; wrong size of password
        return False
    if answer.code:
        raise BmcRefused(f"{bmc.host}: BMC cannot test passwords", detail=f"completion code {answer.code:02X}h")
    return True
