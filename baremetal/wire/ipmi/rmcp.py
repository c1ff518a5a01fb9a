"""What a datagram on UDP 623 is: ASF ping, IPMI 1.5 packet or RMCP+ packet, and how to write one back.

Knows framing only (§13.1-13.6); secrets and integrity are `session`'s.
Anything malformed parses to None: a BMC ignores it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

RMCP_VERSION = 0x06
CLASS_ASF = 0x06
CLASS_IPMI = 0x07
NO_ACK = 0xFF
FORMAT_RMCP_PLUS = 0x06
ASF_IANA = 4542
_ASF_PING = 0x80
_ASF_PONG = 0x40
_HEADER = bytes((RMCP_VERSION, 0x00, NO_ACK, CLASS_IPMI))

#: The largest datagram we accept or send, in bytes.
MAX_DATAGRAM = 1024


@dataclass(frozen=True, slots=True)
class Ping:
    """ASF presence ping (ASF 2.0 §3.2.4.2); `tag` comes back in the pong."""

    tag: int


@dataclass(frozen=True, slots=True)
class Packet15:
    """IPMI 1.5 packet; we take only those without authentication and outside a session."""

    auth_type: int
    seq: int
    session_id: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Packet20:
    """RMCP+ packet as framed. `signed_part` and `trailer` are for the integrity check."""

    payload_type: int
    encrypted: bool
    authenticated: bool
    session_id: int
    seq: int
    payload: bytes
    signed_part: bytes
    trailer: bytes


Parsed = Ping | Packet15 | Packet20


def parse(data: bytes) -> Parsed | None:
    """The packet in a datagram, or None when it is not for us."""
    if not 4 < len(data) <= MAX_DATAGRAM or data[0] != RMCP_VERSION:
        return None
    if data[3] == CLASS_ASF:
        return _parse_asf(data)
    if data[3] != CLASS_IPMI:
        return None
    return _parse20(data) if data[4] == FORMAT_RMCP_PLUS else _parse15(data)


def _parse_asf(data: bytes) -> Ping | None:
    if len(data) < 12:
        return None
    iana, kind, tag = struct.unpack_from(">IBB", data, 4)
    return Ping(tag) if iana == ASF_IANA and kind == _ASF_PING else None


def _parse15(data: bytes) -> Packet15 | None:
    if len(data) < 14:
        return None
    auth_type, seq, session_id = struct.unpack_from("<BII", data, 4)
    at = 13 if auth_type == 0 else 29
    if len(data) <= at:
        return None
    size = data[at]
    message = data[at + 1 : at + 1 + size]
    return Packet15(auth_type, seq, session_id, message) if len(message) == size else None


def _parse20(data: bytes) -> Packet20 | None:
    if len(data) < 16:
        return None
    flags = data[5]
    kind = flags & 0x3F
    at = 6 if kind != 2 else 12  # an OEM payload carries IANA and payload id
    if len(data) < at + 10:
        return None
    session_id, seq, size = struct.unpack_from("<IIH", data, at)
    start = at + 10
    if len(data) < start + size:
        return None
    payload = data[start : start + size]
    return Packet20(
        kind, bool(flags & 0x80), bool(flags & 0x40), session_id, seq, payload, data[4:], data[start + size :]
    )


def ping(tag: int) -> bytes:
    """An ASF presence ping, as a client sends it."""
    return struct.pack(">BBBBIBBBB", RMCP_VERSION, 0, NO_ACK, CLASS_ASF, ASF_IANA, _ASF_PING, tag, 0, 0)


def pong(tag: int) -> bytes:
    """The answer: IPMI supported, ASF 1.0, no RMCP security extensions (ASF 2.0 §3.2.4.3)."""
    head = struct.pack(">BBBBIBBBB", RMCP_VERSION, 0, NO_ACK, CLASS_ASF, ASF_IANA, _ASF_PONG, tag, 0, 16)
    return head + struct.pack(">IIBB6x", ASF_IANA, 0, 0x81, 0)


def packet15(message: bytes) -> bytes:
    """An unauthenticated IPMI 1.5 packet outside a session."""
    return _HEADER + bytes(9) + bytes((len(message),)) + message


def header20(payload_type: int, session_id: int, seq: int, size: int) -> bytes:
    """Session header of an RMCP+ packet, RMCP header not included."""
    return struct.pack("<BBIIH", FORMAT_RMCP_PLUS, payload_type, session_id, seq, size)


def packet20(payload_type: int, payload: bytes, session_id: int = 0, seq: int = 0) -> bytes:
    """An RMCP+ packet in the clear: session set-up, or a session without integrity."""
    return _HEADER + header20(payload_type, session_id, seq, len(payload)) + payload


def framed(signed: bytes, code: bytes) -> bytes:
    """A signed RMCP+ packet: session header to next-header byte, then its authentication code."""
    return _HEADER + signed + code
