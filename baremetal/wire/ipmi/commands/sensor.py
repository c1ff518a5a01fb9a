"""Network function Sensor/Event (§35): readings and thresholds."""

from __future__ import annotations

from baremetal.wire.ipmi.codes import Completion, NetFn, Privilege
from baremetal.wire.ipmi.commands.context import Command, Context, Refuse, Table
from baremetal.wire.ipmi.sdr import Sensor


def _find(ctx: Context, number: int) -> Sensor:
    for sensor in ctx.bmc.sensors:
        if sensor.number == number:
            return sensor
    raise Refuse(Completion.NOT_PRESENT)


def reading(ctx: Context, data: bytes) -> bytes:
    """Get Sensor Reading; "unavailable" while the system that feeds the sensor is off."""
    sensor = _find(ctx, data[0])
    if sensor.needs_power and not ctx.bmc.chassis.powered():
        return bytes((0, 0xE0, 0xC0, 0))
    return bytes((sensor.raw, 0xC0, 0xC0 | sensor.state, 0))


def thresholds(ctx: Context, data: bytes) -> bytes:
    """Get Sensor Thresholds."""
    return _find(ctx, data[0]).thresholds


def hysteresis(ctx: Context, data: bytes) -> bytes:
    """Get Sensor Hysteresis."""
    _find(ctx, data[0])
    return b"\x02\x02"


def enables(ctx: Context, data: bytes) -> bytes:
    """Get Sensor Event Enable: all."""
    _find(ctx, data[0])
    return b"\xc0"


COMMANDS: Table = {
    (NetFn.SENSOR, 0x25): Command(Privilege.USER, hysteresis),
    (NetFn.SENSOR, 0x27): Command(Privilege.USER, thresholds),
    (NetFn.SENSOR, 0x29): Command(Privilege.USER, enables),
    (NetFn.SENSOR, 0x2D): Command(Privilege.USER, reading),
}
