"""Network function App (§20, §22): who the BMC is, sessions, channels, users, payloads."""

from __future__ import annotations

import struct

from baremetal.wire.ipmi.codes import Completion, NetFn, Payload, Privilege
from baremetal.wire.ipmi.commands.context import ANYBODY, CHANNEL, Command, Context, Refuse, Table
from baremetal.wire.ipmi.crypto import SUITES
from baremetal.wire.ipmi.users import NAME_SIZE, PASSWORD_SIZE, SLOTS, User

_IANA_IPMI_FORUM = b"\xf2\x1b\x00"
_CURRENT_CHANNEL = 0x0E


def device_id(ctx: Context, _: bytes) -> bytes:
    """Get Device ID: chassis, SEL, SDR, FRU and sensors are here."""
    me = ctx.bmc.identity
    major, minor = me.firmware
    head = bytes((0x20, 0x01, major & 0x7F, minor, 0x02, 0x8F))
    return head + me.manufacturer.to_bytes(3, "little") + struct.pack("<H", me.product_id) + bytes(4)


def reset(ctx: Context, _: bytes) -> bytes:
    """Cold or Warm Reset: whoever drives us sees the counter and goes silent for a while."""
    ctx.bmc.resets += 1
    return b""


def self_test(_: Context, __: bytes) -> bytes:
    """Get Self Test Results: no error."""
    return b"\x55\x00"


def guid(ctx: Context, _: bytes) -> bytes:
    """Get Device GUID and Get System GUID."""
    return bytes(16) if ctx.bmc.quirks.guid_zero else ctx.bmc.identity.guid


def auth_capabilities(ctx: Context, data: bytes) -> bytes:
    """Get Channel Authentication Capabilities: IPMI 2.0 sessions only."""
    _channel(data[0])
    if data[1] & 0x0F > Privilege.ADMIN:
        raise Refuse(Completion.INVALID_FIELD)
    bmc = ctx.bmc
    users = [u for u in bmc.users.slots if u.enabled]
    status = (0x20 if bmc.kg else 0) | (0x04 if any(u.name for u in users) else 0)
    status |= 0x02 if any(not u.name for u in users) else 0
    status |= 0x01 if any(not u.name and not u.password for u in users) else 0
    extended = data[0] & 0x80
    return bytes((CHANNEL, 0x80 if extended else 0x00, status, 0x02 if extended else 0, 0, 0, 0, 0))


def cipher_suites(ctx: Context, data: bytes) -> bytes:
    """Get Channel Cipher Suites, 16 bytes of the list at a time."""
    if ctx.bmc.quirks.no_suite_list:
        raise Refuse(Completion.INVALID_COMMAND)
    _channel(data[0])
    if data[2] & 0x80:
        records = b"".join(SUITES[number].record for number in ctx.bmc.suites)
    else:
        suites = [SUITES[number] for number in ctx.bmc.suites]
        auth = {s.auth for s in suites}
        integrity = {0x40 | s.integrity for s in suites}
        records = bytes(sorted(auth | integrity | {0x80 | s.confidentiality for s in suites}))
    at = 16 * (data[2] & 0x3F)
    return bytes((CHANNEL,)) + records[at : at + 16]


def set_privilege(ctx: Context, data: bytes) -> bytes:
    """Set Session Privilege Level; 0 asks for the present one."""
    session = ctx.session
    if session is None:
        raise Refuse(Completion.INVALID_COMMAND)
    wanted = data[0] & 0x0F
    if wanted > session.limit:
        raise Refuse(Completion.PRIVILEGE_TOO_HIGH)
    session.privilege = wanted or session.privilege
    return bytes((session.privilege,))


def session_info(ctx: Context, data: bytes) -> bytes:
    """Get Session Info: of this session, or the n-th one."""
    active = [s for s in ctx.sessions.values() if s.active]
    chosen = ctx.session if data[0] == 0 else None
    if 0 < data[0] <= len(active):
        chosen = active[data[0] - 1]
    counts = bytes((min(ctx.bmc.max_sessions, 63), min(len(active), 63)))
    if chosen is None or chosen.user is None:
        return bytes((0,)) + counts
    number = ctx.bmc.users.number(chosen.user)
    handle = active.index(chosen) + 1 if chosen in active else 1
    return bytes((handle,)) + counts + bytes((number, chosen.privilege, 0x10 | CHANNEL)) + bytes(12)


def channel_info(_: Context, data: bytes) -> bytes:
    """Get Channel Info: 802.3 LAN with IPMB-1.0 messages, several sessions; or the system interface."""
    number = data[0] & 0x0F
    if number in (CHANNEL, _CURRENT_CHANNEL):
        return bytes((CHANNEL, 0x04, 0x01, 0x80)) + _IANA_IPMI_FORUM + bytes(2)
    if number == 0x0F:
        return bytes((0x0F, 0x0C, 0x05, 0x00)) + _IANA_IPMI_FORUM + b"\xff\xff"
    raise Refuse(Completion.NOT_PRESENT)


def channel_access(_: Context, data: bytes) -> bytes:
    """Get Channel Access: always available, up to administrator."""
    _channel(data[0])
    return bytes((0x22, Privilege.ADMIN))


def user_access(ctx: Context, data: bytes) -> bytes:
    """Get User Access."""
    _channel(data[0])
    user = _user(ctx, data[1])
    messaging = 0x10 if user.privilege <= Privilege.ADMIN else 0
    enabled = 0x40 if user.enabled else 0x80
    return bytes((SLOTS, enabled | ctx.bmc.users.enabled, 1, 0x20 | messaging | user.privilege))


def set_user_access(ctx: Context, data: bytes) -> bytes:
    """Set User Access: the privilege limit."""
    _channel(data[0] & 0x0F)
    _user(ctx, data[1]).privilege = data[2] & 0x0F
    return b""


def user_name(ctx: Context, data: bytes) -> bytes:
    """Get User Name; zeros for a free slot."""
    return _user(ctx, data[0]).name.ljust(NAME_SIZE, b"\0")


def set_user_name(ctx: Context, data: bytes) -> bytes:
    """Set User Name; the null user of slot 1 keeps none."""
    if data[0] & 0x3F == 1:
        raise Refuse(Completion.INVALID_FIELD)
    _user(ctx, data[0]).name = data[1 : 1 + NAME_SIZE].rstrip(b"\0")
    return b""


def set_user_password(ctx: Context, data: bytes) -> bytes:
    """Set User Password: disable, enable, set or test; 16 or 20 bytes by bit 7 (§22.30)."""
    user = _user(ctx, data[0])
    operation = data[1] & 3
    size = PASSWORD_SIZE if data[0] & 0x80 else 16
    if operation < 2:
        user.enabled = bool(operation)
        return b""
    password = data[2 : 2 + size]
    if len(password) not in (16, 20):
        raise Refuse(Completion.BAD_LENGTH)
    if operation == 2:
        user.password = password.rstrip(b"\0")
    elif password.ljust(PASSWORD_SIZE, b"\0") != user.key:
        raise Refuse(0x80)  # password test failed
    return b""


def payload_support(_: Context, data: bytes) -> bytes:
    """Get Channel Payload Support: IPMI messages, SOL, and session set-up."""
    _channel(data[0])
    return bytes((0x03, 0x00, 0x3F, 0x00, 0, 0, 0, 0))


def payload_version(_: Context, data: bytes) -> bytes:
    """Get Channel Payload Version: 1.0 of what we have."""
    if data[1] not in (Payload.IPMI, Payload.SOL):
        raise Refuse(0x80)
    return b"\x10"


def user_payload_access(ctx: Context, data: bytes) -> bytes:
    """Get User Payload Access: everyone may use SOL."""
    _user(ctx, data[1])
    return b"\x02\x00\x00\x00"


def accept(_: Context, __: bytes) -> bytes:
    """Acknowledge and do nothing."""
    return b""


def global_enables(_: Context, __: bytes) -> bytes:
    """Get BMC Global Enables: event logging on."""
    return b"\x08"


def acpi_state(ctx: Context, _: bytes) -> bytes:
    """Get ACPI Power State: S0/G0 or S5/G2."""
    return b"\x00\x00" if ctx.bmc.chassis.powered() else b"\x05\x00"


def watchdog(_: Context, __: bytes) -> bytes:
    """Get Watchdog Timer: stopped."""
    return bytes(8)


def system_info(ctx: Context, data: bytes) -> bytes:
    """Get System Info Parameters: firmware version, system name, OS name (§22.14b)."""
    if data[0] & 0x80:
        return b"\x11"
    selector, block = data[1], data[2]
    if not 1 <= selector <= 5:
        raise Refuse(Completion.PARAMETER_UNSUPPORTED)
    if (stored := ctx.bmc.system_info.get((selector, block))) is not None:
        return b"\x11" + stored
    if block:
        raise Refuse(Completion.OUT_OF_RANGE)
    major, minor = ctx.bmc.identity.firmware
    texts = {1: f"{major}.{minor:02x}", 2: ctx.bmc.identity.name}
    text = texts.get(selector, "").encode("ascii", "replace")[:14]
    return b"\x11" + bytes((0, 0, len(text))) + text.ljust(14, b"\0")


def set_system_info(ctx: Context, data: bytes) -> bytes:
    """Set System Info Parameters: kept as they come."""
    if not 1 <= data[0] <= 5:
        raise Refuse(Completion.PARAMETER_UNSUPPORTED if data[0] else Completion.OK)
    ctx.bmc.system_info[data[0], data[1]] = data[1:18]
    return b""


def _channel(byte: int) -> None:
    if byte & 0x0F not in (CHANNEL, _CURRENT_CHANNEL):
        raise Refuse(Completion.INVALID_FIELD)


def _user(ctx: Context, number: int) -> User:
    try:
        return ctx.bmc.users[number & 0x3F]
    except IndexError:
        raise Refuse(Completion.INVALID_FIELD) from None


_A, _U, _O = Privilege.ADMIN, Privilege.USER, Privilege.OPERATOR
COMMANDS: Table = {
    (NetFn.APP, 0x01): Command(_U, device_id),
    (NetFn.APP, 0x02): Command(_A, reset),
    (NetFn.APP, 0x03): Command(_A, reset),
    (NetFn.APP, 0x04): Command(_U, self_test),
    (NetFn.APP, 0x07): Command(_U, acpi_state),
    (NetFn.APP, 0x08): Command(_U, guid),
    (NetFn.APP, 0x22): Command(_O, accept),
    (NetFn.APP, 0x25): Command(_U, watchdog),
    (NetFn.APP, 0x2E): Command(_A, accept),
    (NetFn.APP, 0x2F): Command(_U, global_enables),
    (NetFn.APP, 0x37): Command(ANYBODY, guid),
    (NetFn.APP, 0x38): Command(ANYBODY, auth_capabilities),
    (NetFn.APP, 0x3B): Command(Privilege.CALLBACK, set_privilege),
    (NetFn.APP, 0x3D): Command(_U, session_info),
    (NetFn.APP, 0x40): Command(_A, accept),
    (NetFn.APP, 0x41): Command(_U, channel_access),
    (NetFn.APP, 0x42): Command(_U, channel_info),
    (NetFn.APP, 0x43): Command(_A, set_user_access),
    (NetFn.APP, 0x44): Command(_O, user_access),
    (NetFn.APP, 0x45): Command(_A, set_user_name),
    (NetFn.APP, 0x46): Command(_O, user_name),
    (NetFn.APP, 0x47): Command(_A, set_user_password),
    (NetFn.APP, 0x4C): Command(_A, accept),
    (NetFn.APP, 0x4D): Command(_O, user_payload_access),
    (NetFn.APP, 0x4E): Command(_U, payload_support),
    (NetFn.APP, 0x4F): Command(_U, payload_version),
    (NetFn.APP, 0x54): Command(ANYBODY, cipher_suites),
    (NetFn.APP, 0x58): Command(_A, set_system_info),
    (NetFn.APP, 0x59): Command(_U, system_info),
}
