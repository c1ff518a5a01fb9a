"""Network function Transport (§23, §26): LAN and serial-over-LAN parameters."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable

from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.codes import Completion, NetFn, Privilege
from baremetal.wire.ipmi.commands.context import CHANNEL, Command, Context, Refuse, Table

_REVISION = b"\x11"
_STATIC = 1
_PORT = 623


def _ip(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def _mask(bmc: Bmc) -> bytes:
    return ipaddress.IPv4Network(f"0.0.0.0/{bmc.lan.prefix}").netmask.packed


def _mac(bmc: Bmc) -> bytes:
    return bytes.fromhex(bmc.identity.mac.replace(":", ""))


def _suites(bmc: Bmc) -> bytes:
    return bytes((0, *bmc.suites)).ljust(17, b"\0")


#: LAN configuration parameters (table 23-4).
_LAN: dict[int, Callable[[Bmc], bytes]] = {
    0: lambda bmc: b"\x00",
    1: lambda bmc: b"\x00",
    2: lambda bmc: bytes(5),
    3: lambda bmc: _ip(bmc.lan.address),
    4: lambda bmc: bytes((_STATIC,)),
    5: _mac,
    6: _mask,
    7: lambda bmc: b"\x40\x40\x10",
    8: lambda bmc: struct.pack("<H", _PORT),
    10: lambda bmc: b"\x02",
    11: lambda bmc: b"\x04",
    12: lambda bmc: _ip(bmc.lan.gateway),
    13: lambda bmc: bytes(6),
    14: lambda bmc: bytes(4),
    15: lambda bmc: bytes(6),
    16: lambda bmc: bmc.lan.community.encode()[:18].ljust(18, b"\0"),
    17: lambda bmc: b"\x00",
    20: lambda bmc: b"\x00\x00",
    21: lambda bmc: b"\x00",
    22: lambda bmc: bytes((len(bmc.suites),)),
    23: _suites,
    24: lambda bmc: b"\x00" + b"\x44" * 8,
}
_READ_ONLY = (1, 22, 23)


def get_lan(ctx: Context, data: bytes) -> bytes:
    """Get LAN Configuration Parameters."""
    _channel(data[0])
    if data[0] & 0x80:
        return _REVISION
    if (stored := ctx.bmc.lan.extra.get(data[1])) is not None:
        return _REVISION + stored
    if (read := _LAN.get(data[1])) is None:
        raise Refuse(Completion.PARAMETER_UNSUPPORTED)
    return _REVISION + read(ctx.bmc)


def set_lan(ctx: Context, data: bytes) -> bytes:
    """Set LAN Configuration Parameters: kept and read back, the network itself does not change."""
    _channel(data[0])
    if data[1] not in _LAN:
        raise Refuse(Completion.PARAMETER_UNSUPPORTED)
    if data[1] in _READ_ONLY:
        raise Refuse(0x82)
    if data[1]:
        ctx.bmc.lan.extra[data[1]] = data[2 : 2 + len(_LAN[data[1]](ctx.bmc))]
    return b""


#: SOL configuration parameters (table 26-5).
_SOL: dict[int, Callable[[Bmc], bytes]] = {
    0: lambda bmc: b"\x00",
    1: lambda bmc: bytes((bmc.sol_enabled,)),
    2: lambda bmc: b"\x82",  # encryption as the session has it, privilege user
    3: lambda bmc: b"\x0a\x60",
    4: lambda bmc: b"\x07\x32",
    5: lambda bmc: bytes((bmc.sol_baud,)),
    6: lambda bmc: bytes((bmc.sol_baud,)),
    7: lambda bmc: bytes((CHANNEL,)),
    8: lambda bmc: struct.pack("<H", _PORT),
}


def get_sol(ctx: Context, data: bytes) -> bytes:
    """Get SOL Configuration Parameters."""
    _channel(data[0])
    if data[0] & 0x80:
        return _REVISION
    if (read := _SOL.get(data[1])) is None:
        raise Refuse(Completion.PARAMETER_UNSUPPORTED)
    return _REVISION + read(ctx.bmc)


def set_sol(ctx: Context, data: bytes) -> bytes:
    """Set SOL Configuration Parameters: enable and bit rate."""
    _channel(data[0])
    if data[1] not in _SOL:
        raise Refuse(Completion.PARAMETER_UNSUPPORTED)
    if data[1] == 1:
        ctx.bmc.sol_enabled = bool(data[2] & 1)
    elif data[1] in (5, 6):
        ctx.bmc.sol_baud = data[2] & 0x0F
    return b""


def _channel(byte: int) -> None:
    if byte & 0x0F not in (CHANNEL, 0x0E):
        raise Refuse(Completion.INVALID_FIELD)


COMMANDS: Table = {
    (NetFn.TRANSPORT, 0x01): Command(Privilege.ADMIN, set_lan),
    (NetFn.TRANSPORT, 0x02): Command(Privilege.OPERATOR, get_lan),
    (NetFn.TRANSPORT, 0x21): Command(Privilege.ADMIN, set_sol),
    (NetFn.TRANSPORT, 0x22): Command(Privilege.USER, get_sol),
}
