"""Payload commands of network function App (§24): who has the serial line."""

from __future__ import annotations

import struct

from baremetal.wire.ipmi import sol
from baremetal.wire.ipmi.codes import Completion, NetFn, Payload, Privilege
from baremetal.wire.ipmi.commands.context import Command, Context, Refuse, Table

_SIZE = sol.CHUNK + 4
_DISABLED = 0x81
_NO_SUCH_INSTANCE = 0x82
_NO_ENCRYPTION = 0x83
_ENCRYPT = 0x80


def activate(ctx: Context, data: bytes) -> bytes:
    """Activate Payload: SOL has one instance, and the first who comes has it."""
    session = ctx.session
    if session is None or data[0] != Payload.SOL:
        raise Refuse(Completion.INVALID_FIELD)
    if data[1] != 1:
        raise Refuse(_NO_SUCH_INSTANCE)
    if not ctx.bmc.sol_enabled:
        raise Refuse(_DISABLED)
    if data[2] & _ENCRYPT and not session.suite.confidentiality:
        raise Refuse(_NO_ENCRYPTION)
    if ctx.bmc.sol is not None:
        raise Refuse(Completion.PAYLOAD_ACTIVE_ELSEWHERE)
    ctx.bmc.sol = sol.Line(session.id)
    return bytes(4) + struct.pack("<HHHH", _SIZE, _SIZE, 623, 0xFFFF)


def deactivate(ctx: Context, data: bytes) -> bytes:
    """Deactivate Payload: one's own, or another's, who is told."""
    line = ctx.bmc.sol
    if data[0] != Payload.SOL or data[1] != 1:
        raise Refuse(Completion.INVALID_FIELD)
    if line is None:
        raise Refuse(0x80)  # already deactivated
    ctx.bmc.sol = None
    if ctx.session is None or line.session_id != ctx.session.id:
        ctx.bmc.sol_ousted = line
    return b""


def activation_status(ctx: Context, data: bytes) -> bytes:
    """Get Payload Activation Status: one instance, in use or not."""
    active = data[0] == Payload.SOL and ctx.bmc.sol is not None
    return bytes((1, 1 if active else 0, 0))


def instance_info(ctx: Context, data: bytes) -> bytes:
    """Get Payload Instance Info: whose it is."""
    line = ctx.bmc.sol if data[0] == Payload.SOL and data[1] == 1 else None
    return struct.pack("<I8x", line.session_id if line else 0)


COMMANDS: Table = {
    (NetFn.APP, 0x48): Command(Privilege.USER, activate),
    (NetFn.APP, 0x49): Command(Privilege.USER, deactivate),
    (NetFn.APP, 0x4A): Command(Privilege.USER, activation_status),
    (NetFn.APP, 0x4B): Command(Privilege.USER, instance_info),
}
