"""Network function Chassis (§28): status, power, identify light, boot options."""

from __future__ import annotations

from baremetal.wire.ipmi import bootopts
from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.codes import ChassisControl, Completion, NetFn, Privilege
from baremetal.wire.ipmi.commands.context import Command, Context, Refuse, Table

_IDENTIFY_S = 15
_NEEDS_POWER = (ChassisControl.CYCLE, ChassisControl.RESET, ChassisControl.DIAG, ChassisControl.SOFT)
_RESTARTS = (ChassisControl.ON, ChassisControl.CYCLE, ChassisControl.RESET)


def capabilities(_: Context, __: bytes) -> bytes:
    """Get Chassis Capabilities: intrusion sensor; every device is the BMC."""
    return bytes((0x01, 0x20, 0x20, 0x20, 0x20, 0x20))


def status(ctx: Context, _: bytes) -> bytes:
    """Get Chassis Status."""
    bmc = ctx.bmc
    identify = 0x40 | (0x10 if bmc.identify_until > ctx.now else 0)
    power = (0x01 if bmc.chassis.powered() else 0) | bmc.restore_policy << 5
    return bytes((power, bmc.last_power_event, identify | (0x01 if bmc.intrusion else 0), 0))


def control(ctx: Context, data: bytes) -> bytes:
    """Chassis Control; D5h when the order makes no sense in this state, as real BMCs answer."""
    number = data[0] & 0x0F
    if number not in set(ChassisControl):
        raise Refuse(Completion.INVALID_FIELD)
    order_power(ctx.bmc, ChassisControl(number), ctx.now)
    return b""


def order_power(bmc: Bmc, order: ChassisControl, now: float) -> None:
    """Carry out a power order, by whichever face it came."""
    powered = bmc.chassis.powered()
    if not powered and order in _NEEDS_POWER:
        raise Refuse(Completion.WRONG_STATE)
    bmc.boot.commanded(now)
    if bmc.quirks.power_ignored:
        return
    if powered != (order in _RESTARTS) and order is not ChassisControl.DIAG:
        bmc.sel.power(order in _RESTARTS, int(now))
    if order in _RESTARTS:
        bmc.restart_cause = 0x01
        bmc.last_power_event = 0x10 if order is ChassisControl.ON else bmc.last_power_event
    bmc.chassis.control(order)


def identify(ctx: Context, data: bytes) -> bytes:
    """Chassis Identify: seconds, or for ever; 0 puts the light out."""
    seconds = float(data[0]) if data else _IDENTIFY_S
    if len(data) > 1 and data[1] & 1:
        seconds = float("inf")
    ctx.bmc.identify_until = ctx.now + seconds
    return b""


def restore_policy(ctx: Context, data: bytes) -> bytes:
    """Set Power Restore Policy; 3 only asks what there is."""
    if data[0] & 7 < 3:
        ctx.bmc.restore_policy = data[0] & 7
    return b"\x07"


def restart_cause(ctx: Context, _: bytes) -> bytes:
    """Get System Restart Cause: a chassis control command, or unknown."""
    return bytes((ctx.bmc.restart_cause, 1))


def set_boot(ctx: Context, data: bytes) -> bytes:
    """Set System Boot Options."""
    bmc, selector, value = ctx.bmc, data[0] & 0x7F, data[1:]
    if selector not in bootopts.SIZES:
        raise Refuse(Completion.PARAMETER_UNSUPPORTED)
    if data[0] & 0x80:
        bmc.boot.invalid.add(selector)
    else:
        bmc.boot.invalid.discard(selector)
    if selector == bootopts.FLAGS:
        if bmc.quirks.boot_dropped:
            return b""
        value = _as_firmware_keeps(bmc, value)
    if value:
        bmc.boot.set(selector, value, ctx.now)
    return b""


def _as_firmware_keeps(bmc: Bmc, flags: bytes) -> bytes:
    lost = bootopts.PERSISTENT if bmc.quirks.boot_persistent_lost else 0
    once = bool(flags) and not flags[0] & bootopts.PERSISTENT
    lost |= bootopts.EFI if bmc.quirks.efi_lost or (bmc.quirks.efi_once_lost and once) else 0
    return bytes((flags[0] & ~lost & 0xFF,)) + flags[1:] if flags else flags


def get_boot(ctx: Context, data: bytes) -> bytes:
    """Get System Boot Options."""
    selector = data[0] & 0x7F
    if selector not in bootopts.SIZES:
        raise Refuse(Completion.PARAMETER_UNSUPPORTED)
    invalid = 0x80 if selector in ctx.bmc.boot.invalid else 0
    return bytes((0x01, invalid | selector)) + ctx.bmc.boot.get(selector, ctx.now)


def hours(_: Context, __: bytes) -> bytes:
    """Get POH Counter: new from the factory."""
    return bytes((60, 0, 0, 0, 0))


_A, _U, _O = Privilege.ADMIN, Privilege.USER, Privilege.OPERATOR
COMMANDS: Table = {
    (NetFn.CHASSIS, 0x00): Command(_U, capabilities),
    (NetFn.CHASSIS, 0x01): Command(_U, status),
    (NetFn.CHASSIS, 0x02): Command(_O, control),
    (NetFn.CHASSIS, 0x04): Command(_O, identify),
    (NetFn.CHASSIS, 0x06): Command(_O, restore_policy),
    (NetFn.CHASSIS, 0x07): Command(_U, restart_cause),
    (NetFn.CHASSIS, 0x08): Command(_O, set_boot),
    (NetFn.CHASSIS, 0x09): Command(_O, get_boot),
    (NetFn.CHASSIS, 0x0F): Command(_U, hours),
}
