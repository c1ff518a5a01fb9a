"""Bytes <-> BOOTP/DHCP messages (RFC 951, 2131, 2132, 3396). Opens no socket.

`read` is the one walk over a datagram that everything else uses; it accepts
what firmware really sends (pads, no END, options in file and sname, split
options) and refuses what cannot be one message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from baremetal.errors import BaremetalError

MAGIC = b"\x63\x82\x53\x63"
BOOTREQUEST, BOOTREPLY = 1, 2
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
LEASEQUERY, LEASEUNASSIGNED, LEASEUNKNOWN, LEASEACTIVE = 10, 11, 12, 13
TYPE_NAMES = {
    DISCOVER: "DISCOVER",
    OFFER: "OFFER",
    REQUEST: "REQUEST",
    DECLINE: "DECLINE",
    ACK: "ACK",
    NAK: "NAK",
    RELEASE: "RELEASE",
    INFORM: "INFORM",
    LEASEQUERY: "LEASEQUERY",
    LEASEUNASSIGNED: "LEASEUNASSIGNED",
    LEASEUNKNOWN: "LEASEUNKNOWN",
    LEASEACTIVE: "LEASEACTIVE",
}

# Offsets of the fixed part (RFC 2131 §2, figure 1).
XID, SECS, FLAGS, CIADDR, YIADDR, SIADDR, GIADDR, CHADDR, SNAME, FILE, COOKIE, OPTIONS = (
    4, 8, 10, 12, 16, 20, 24, 28, 44, 108, 236, 240,
)  # fmt: skip
SHORTEST = 236  # a message of RFC 951 may come without vendor area
SHORTEST_REPLY = 300  # old relays and ROMs drop anything shorter (RFC 951 §3, RFC 1542 §2.1)
NO_ADDRESS = b"\0\0\0\0"
BROADCAST_FLAG = 0x80  # first byte of flags


class BadPacket(BaremetalError):
    """These bytes are no BOOTP or DHCP message."""

    code = "dhcp-packet"


def read_options(data: bytes, at: int, end: int, into: dict[int, bytes]) -> None:
    """Collect the options of data[at:end]; split ones are joined (RFC 3396).

    Ends at END, or at the end of the area: some ROMs leave END out.
    """
    try:
        while at < end:
            code = data[at]
            if code == 0:
                at += 1
                continue
            if code == 255:
                return
            start = at + 2
            at = start + data[at + 1]
            if code in into:
                into[code] += data[start:at]
            else:
                into[code] = data[start:at]
    except IndexError:
        raise BadPacket(f"option {code} has no length") from None
    if at > end:
        raise BadPacket(f"option {code} is longer than what is left of the message")


def read(data: bytes) -> dict[int, bytes]:
    """The options of a message, those in file and sname included (option 52).

    No magic cookie: BOOTP of RFC 951, no options.
    """
    size = len(data)
    if size < SHORTEST:
        raise BadPacket(f"{size} bytes are too few for BOOTP ({SHORTEST})")
    options: dict[int, bytes] = {}
    if data[COOKIE:OPTIONS] != MAGIC:
        return options
    read_options(data, OPTIONS, size, options)
    if 52 in options:
        overload = options[52]
        if overload in (b"\x01", b"\x03"):
            read_options(data, FILE, COOKIE, options)
        if overload in (b"\x02", b"\x03"):
            read_options(data, SNAME, FILE, options)
    return options


@dataclass(frozen=True)
class Packet:
    """A message as fields, for people, tests and `diagnose`; the server's hot path works on bytes.

    Addresses are dotted quads, `mac` lower case with colons.
    """

    op: int
    htype: int
    xid: int
    mac: str
    secs: int = 0
    broadcast: bool = False
    hops: int = 0
    ciaddr: str = "0.0.0.0"  # noqa: S104 (an unset field, not a listening address)
    yiaddr: str = "0.0.0.0"  # noqa: S104
    siaddr: str = "0.0.0.0"  # noqa: S104
    giaddr: str = "0.0.0.0"  # noqa: S104
    sname: bytes = b""
    file: bytes = b""
    options: dict[int, bytes] = field(default_factory=dict)

    @property
    def type(self) -> int:
        """Message type (option 53), 0 for BOOTP."""
        return (self.options.get(53) or b"\0")[0]

    @property
    def boot_file(self) -> str:
        """Name or URL to boot: the file field, else option 67."""
        return (self.file or self.options.get(67, b"").rstrip(b"\0")).decode("latin-1")


def parse(data: bytes) -> Packet:
    """Any bytes give a Packet or BadPacket."""
    options = read(data)
    op, htype, hlen, hops, xid, secs, flags = struct.unpack_from("!BBBBIHH", data)
    if op not in (BOOTREQUEST, BOOTREPLY):
        raise BadPacket(f"op {op} is neither request nor reply")
    if hlen > 16:
        raise BadPacket(f"a hardware address of {hlen} bytes does not fit")
    used = options.get(52, b"")
    return Packet(
        op=op,
        htype=htype,
        hops=hops,
        xid=xid,
        secs=secs,
        broadcast=bool(flags & 0x8000),
        mac=data[CHADDR : CHADDR + hlen].hex(":"),
        ciaddr=quad(data[CIADDR:YIADDR]),
        yiaddr=quad(data[YIADDR:SIADDR]),
        siaddr=quad(data[SIADDR:GIADDR]),
        giaddr=quad(data[GIADDR:CHADDR]),
        sname=b"" if used in (b"\x02", b"\x03") else data[SNAME:FILE].partition(b"\0")[0],
        file=b"" if used in (b"\x01", b"\x03") else data[FILE:COOKIE].partition(b"\0")[0],
        options=options,
    )


def build(packet: Packet) -> bytes:
    """The datagram of a Packet; long options are split (RFC 3396), replies padded to 300 bytes."""
    chaddr = bytes.fromhex(packet.mac.replace(":", ""))
    head = struct.pack(
        "!BBBBIHH4s4s4s4s16s64s128s",
        packet.op,
        packet.htype,
        len(chaddr),
        packet.hops,
        packet.xid,
        packet.secs,
        0x8000 if packet.broadcast else 0,
        packed(packet.ciaddr),
        packed(packet.yiaddr),
        packed(packet.siaddr),
        packed(packet.giaddr),
        chaddr,
        packet.sname,
        packet.file,
    )
    body = b"".join(option(code, value) for code, value in packet.options.items())
    return (head + MAGIC + body + b"\xff").ljust(SHORTEST_REPLY, b"\0")


def option(code: int, value: bytes) -> bytes:
    """One option on the wire, in as many parts as its length needs."""
    if len(value) <= 255:
        return bytes((code, len(value))) + value
    parts = [value[i : i + 255] for i in range(0, len(value), 255)]
    return b"".join(bytes((code, len(part))) + part for part in parts)


def quad(raw: bytes) -> str:
    """Four bytes -> dotted quad."""
    return f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}"


def packed(address: str) -> bytes:
    """Dotted quad -> four bytes; BadPacket when it is none."""
    try:
        raw = bytes(int(part) for part in address.split("."))
    except ValueError:
        raw = b""
    if len(raw) != 4:
        raise BadPacket(f"{address!r} is no IPv4 address")
    return raw


def sub_options(raw: bytes) -> dict[int, bytes]:
    """Sub-options of option 82 or 43; a list that overruns ends there."""
    out: dict[int, bytes] = {}
    at = 0
    while at + 2 <= len(raw) and raw[at] != 255 and at + 2 + raw[at + 1] <= len(raw):
        out[raw[at]] = raw[at + 2 : at + 2 + raw[at + 1]]
        at += 2 + raw[at + 1]
    return out


def hardware_key(data: bytes, options: dict[int, bytes]) -> bytes:
    """What a lease belongs to: the MAC; for other hardware its type byte and address.

    InfiniBand addresses do not fit: there the client id stands for it (RFC 4390 §2.1).
    """
    if data[1] == 1 and data[2] == 6:
        key = data[28:34]
        if key[0] & 1 or key == b"\0\0\0\0\0\0":
            raise BadPacket("a hardware address that no machine can have")
        return key
    if data[2] == 0 and data[1] != 1 and len(options.get(61, b"")) > 1:
        return data[1:2] + options[61]
    if not 0 < data[2] <= 16:
        raise BadPacket(f"hardware address of {data[2]} bytes")
    return data[1:2] + data[28 : 28 + data[2]]
