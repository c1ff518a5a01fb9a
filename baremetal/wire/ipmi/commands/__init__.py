"""What the BMC answers: one module a network function, one function a command.

A handler takes a Context and the request's data and returns the response's data
without the completion code; to refuse it raises Refuse.
"""

from __future__ import annotations

import struct

from baremetal.wire.ipmi.codes import Completion, Privilege
from baremetal.wire.ipmi.commands import app, chassis, payload, sensor, storage, transport
from baremetal.wire.ipmi.commands.context import Context, Refuse, Table
from baremetal.wire.ipmi.message import Request

TABLE: Table = {
    **app.COMMANDS,
    **chassis.COMMANDS,
    **payload.COMMANDS,
    **sensor.COMMANDS,
    **storage.COMMANDS,
    **transport.COMMANDS,
}


def execute(context: Context, request: Request) -> bytes:
    """Completion code and data for a request."""
    command = TABLE.get((request.netfn, request.cmd))
    if command is None or request.lun:
        return bytes((Completion.INVALID_COMMAND,))
    if context.privilege < command.privilege:
        return bytes((Completion.PRIVILEGE,))
    try:
        return bytes((Completion.OK,)) + command.run(context, request.data)
    except Refuse as refusal:
        return bytes((refusal.code,))
    except (IndexError, struct.error):
        return bytes((Completion.BAD_LENGTH,))


def open_to_all(netfn: int, cmd: int) -> bool:
    """May it be asked outside a session?"""
    command = TABLE.get((netfn, cmd))
    return command is not None and command.privilege < Privilege.CALLBACK
