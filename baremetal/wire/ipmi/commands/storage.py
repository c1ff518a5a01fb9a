"""Network function Storage (§31, §33, §34): FRU, sensor data records, event log."""

from __future__ import annotations

import struct

from baremetal.wire.ipmi.codes import Completion, NetFn, Privilege
from baremetal.wire.ipmi.commands.context import Command, Context, Refuse, Table

# A reply must fit the message buffer of small controllers; larger reads are refused, as real ones do.
MAX_READ = 64
_RESERVATION = 0x0001


def fru_info(ctx: Context, data: bytes) -> bytes:
    """Get FRU Inventory Area Info: size in bytes, accessed by bytes."""
    if data[0]:
        raise Refuse(Completion.NOT_PRESENT)
    return struct.pack("<HB", len(ctx.bmc.fru), 0)


def fru_read(ctx: Context, data: bytes) -> bytes:
    """Read FRU Data."""
    number, at, count = struct.unpack_from("<BHB", data)
    if number:
        raise Refuse(Completion.NOT_PRESENT)
    if at >= len(ctx.bmc.fru):
        raise Refuse(Completion.OUT_OF_RANGE)
    if count > MAX_READ:
        raise Refuse(Completion.TOO_MANY_BYTES)
    chunk = bytes(ctx.bmc.fru[at : at + count])
    return bytes((len(chunk),)) + chunk


def fru_write(ctx: Context, data: bytes) -> bytes:
    """Write FRU Data."""
    number, at = struct.unpack_from("<BH", data)
    if number:
        raise Refuse(Completion.NOT_PRESENT)
    chunk = data[3:]
    if at + len(chunk) > len(ctx.bmc.fru):
        raise Refuse(Completion.OUT_OF_RANGE)
    ctx.bmc.fru[at : at + len(chunk)] = chunk
    return bytes((len(chunk),))


def sdr_info(ctx: Context, _: bytes) -> bytes:
    """Get SDR Repository Info: version 1.5 of the layout, reservations, never changed."""
    return struct.pack("<BHHIIB", 0x51, len(ctx.bmc.sdrs), 0x1000, 0x60000000, 0x60000000, 0x22)


def sdr_allocation(_: Context, __: bytes) -> bytes:
    """Get SDR Repository Allocation Info: no room to write."""
    return struct.pack("<HHHHB", 0, 0x40, 0, 0, 0)


def reserve(_: Context, __: bytes) -> bytes:
    """Reserve SDR Repository or SEL: nothing here is ever moved under a reader."""
    return struct.pack("<H", _RESERVATION)


def sdr_read(ctx: Context, data: bytes) -> bytes:
    """Get SDR: next record's id and (part of) this record."""
    _, number, at, count = struct.unpack_from("<HHBB", data)
    records = ctx.bmc.sdrs
    index = len(records) - 1 if number == 0xFFFF else max(number - 1, 0)
    if index >= len(records) or not records:
        raise Refuse(Completion.NOT_PRESENT)
    record = records[index]
    if at > len(record):
        raise Refuse(Completion.OUT_OF_RANGE)
    chunk = record[at:] if count == 0xFF else record[at : at + count]
    if len(chunk) > MAX_READ:
        raise Refuse(Completion.TOO_MANY_BYTES)
    following = index + 2 if index + 1 < len(records) else 0xFFFF
    return struct.pack("<H", following) + chunk


def sdr_time(ctx: Context, _: bytes) -> bytes:
    """Get SDR Repository Time and Get SEL Time: Unix seconds."""
    return struct.pack("<I", int(ctx.now) & 0xFFFFFFFF)


def set_time(_: Context, __: bytes) -> bytes:
    """Set SEL Time: acknowledged; the clock is the host's."""
    return b""


def utc_offset(_: Context, __: bytes) -> bytes:
    """Get SEL Time UTC Offset: none."""
    return b"\x00\x00"


def sel_info(ctx: Context, _: bytes) -> bytes:
    """Get SEL Info."""
    sel = ctx.bmc.sel
    free = min((sel.capacity - len(sel.records)) * 16, 0xFFFF)
    flags = 0x02 | (0x80 if sel.overflow else 0)
    return struct.pack("<BHHIIB", 0x51, len(sel.records), free, sel.added_at, sel.erased_at, flags)


def sel_read(ctx: Context, data: bytes) -> bytes:
    """Get SEL Entry."""
    _, number, at, count = struct.unpack_from("<HHBB", data)
    records = ctx.bmc.sel.records
    index = ctx.bmc.sel.find(number)
    if index is None:
        raise Refuse(Completion.NOT_PRESENT)
    following = records[index + 1][:2] if index + 1 < len(records) else b"\xff\xff"
    return following + (records[index][at:] if count == 0xFF else records[index][at : at + count])


def sel_add(ctx: Context, data: bytes) -> bytes:
    """Add SEL Entry."""
    if len(data) < 16:
        raise Refuse(Completion.BAD_LENGTH)
    number = ctx.bmc.sel.add(data, int(ctx.now))
    if number is None:
        raise Refuse(Completion.OUT_OF_SPACE)
    return struct.pack("<H", number)


def sel_clear(ctx: Context, data: bytes) -> bytes:
    """Clear SEL: start it (AAh) or ask how far (00h); it is done at once."""
    if data[2:5] != b"CLR":
        raise Refuse(Completion.INVALID_FIELD)
    if data[5] == 0xAA:
        ctx.bmc.sel.clear(int(ctx.now))
    return b"\x01"


_A, _U, _O = Privilege.ADMIN, Privilege.USER, Privilege.OPERATOR
COMMANDS: Table = {
    (NetFn.STORAGE, 0x10): Command(_U, fru_info),
    (NetFn.STORAGE, 0x11): Command(_U, fru_read),
    (NetFn.STORAGE, 0x12): Command(_O, fru_write),
    (NetFn.STORAGE, 0x20): Command(_U, sdr_info),
    (NetFn.STORAGE, 0x21): Command(_U, sdr_allocation),
    (NetFn.STORAGE, 0x22): Command(_U, reserve),
    (NetFn.STORAGE, 0x23): Command(_U, sdr_read),
    (NetFn.STORAGE, 0x28): Command(_U, sdr_time),
    (NetFn.STORAGE, 0x40): Command(_U, sel_info),
    (NetFn.STORAGE, 0x42): Command(_U, reserve),
    (NetFn.STORAGE, 0x43): Command(_U, sel_read),
    (NetFn.STORAGE, 0x44): Command(_O, sel_add),
    (NetFn.STORAGE, 0x47): Command(_O, sel_clear),
    (NetFn.STORAGE, 0x48): Command(_U, sdr_time),
    (NetFn.STORAGE, 0x49): Command(_O, set_time),
    (NetFn.STORAGE, 0x5C): Command(_U, utc_offset),
}
