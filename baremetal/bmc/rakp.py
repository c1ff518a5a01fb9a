"""The client's half of an RMCP+ login, without I/O (IPMI 2.0 §13.17 to §13.28).

Four messages: open session, RAKP 1 and 3 go out; their answers come back and
are checked here. What comes of it is a `Keys`, which seals and opens the
packets of the session. Framing and ciphers are `wire/ipmi`'s.
"""

from __future__ import annotations

import hmac
import os
import struct
from dataclasses import dataclass

from baremetal.wire.ipmi import crypto, rmcp
from baremetal.wire.ipmi.codes import Payload

# Status codes of open session and RAKP messages (table 13-15).
STATUS = {
    0x01: "insufficient resources to create a session",
    0x02: "invalid session id",
    0x03: "invalid payload type",
    0x04: "invalid authentication algorithm",
    0x05: "invalid integrity algorithm",
    0x06: "no matching authentication payload",
    0x07: "no matching integrity payload",
    0x08: "inactive session id",
    0x09: "invalid role",
    0x0A: "unauthorized role or privilege level requested",
    0x0B: "insufficient resources to create a session at the requested role",
    0x0C: "invalid name length",
    0x0D: "unauthorized name",
    0x0E: "unauthorized GUID",
    0x0F: "invalid integrity check value",
    0x10: "invalid confidentiality algorithm",
    0x11: "no cipher suite match with the proposed security algorithms",
    0x12: "illegal or unrecognized parameter",
}
NO_SUITE = {0x04, 0x05, 0x06, 0x07, 0x10, 0x11}
NO_SESSION = {0x01, 0x0B}
NO_PRIVILEGE = {0x09, 0x0A}
NO_USER = {0x0C, 0x0D, 0x0E}
STALE = {0x02, 0x08}
NAME_ONLY = 0x10


_ivs = bytearray()


def _iv() -> bytes:
    """16 random bytes, fetched from the kernel for 256 packets at a time: each call costs as much as sealing one."""
    if not _ivs:
        _ivs.extend(os.urandom(4096))
    iv = bytes(_ivs[-16:])
    del _ivs[-16:]
    return iv


class Reject(Exception):
    """The BMC, or our own check, ends the login. `status` as in STATUS; `ours` names a check of ours that failed."""

    def __init__(self, status: int, stage: str, ours: str = "") -> None:
        super().__init__(ours or STATUS.get(status, f"status {status:02X}h"))
        self.status = status
        self.stage = stage
        self.ours = ours


@dataclass(frozen=True, slots=True)
class Keys:
    """An open session: ids, suite and keys. `our_id` is the id in packets to us, `their_id` in packets to the BMC."""

    suite: crypto.Suite
    our_id: int
    their_id: int
    k1: bytes
    aes: bytes
    guid: bytes

    def seal(self, payload_type: int, payload: bytes, seq: int) -> bytes:
        """A signed and encrypted packet (suites without encryption stay in the clear)."""
        kind = payload_type
        if self.suite.confidentiality:
            payload, kind = crypto.encrypt(self.aes, payload, _iv()), kind | 0x80
        if not self.suite.integrity:
            return rmcp.packet20(kind, payload, self.their_id, seq)
        signed = rmcp.header20(kind | 0x40, self.their_id, seq, len(payload)) + payload
        pad = -(len(signed) + 2) % 4
        signed += b"\xff" * pad + bytes((pad, 7))
        return rmcp.framed(signed, self.suite.sign(self.k1, signed))

    def open(self, packet: rmcp.Packet20) -> bytes | None:
        """The payload of a packet for us; None when it is not, or its signature is wrong."""
        if packet.session_id != self.our_id:
            return None
        if self.suite.integrity:
            size = self.suite.integrity_size
            signed = packet.signed_part
            if not packet.authenticated or len(packet.trailer) < size + 2:
                return None
            if not hmac.compare_digest(self.suite.sign(self.k1, signed[:-size]), signed[-size:]):
                return None
        if self.suite.confidentiality:
            return crypto.decrypt(self.aes, packet.payload) if packet.encrypted else None
        return packet.payload


class Handshake:
    """One login attempt with one suite and one privilege. Each message is built once and may be sent again."""

    def __init__(
        self, user: bytes, password: bytes, kg: bytes | None, suite: crypto.Suite, privilege: int, tag: int
    ) -> None:
        self.user = user
        self.password = password
        self.kg = kg or password
        self.suite = suite
        self.privilege = privilege
        self.tag = tag & 0xFC  # the lowest two bits count the messages
        self.our_id = int.from_bytes(os.urandom(4), "little") | 1
        self.their_id = 0
        self._ours = os.urandom(16)
        self._theirs = b""
        self._guid = b""
        self._sik = b""

    @property
    def _who(self) -> bytes:
        return bytes((NAME_ONLY | self.privilege, len(self.user))) + self.user

    def open_request(self) -> bytes:
        """Proposes exactly one suite (§13.17). Privilege 0: the highest that the proposed suite allows."""
        suite = self.suite
        algorithms = b"".join(
            bytes((kind, 0, 0, 8, number, 0, 0, 0))
            for kind, number in enumerate((suite.auth, suite.integrity, suite.confidentiality))
        )
        body = struct.pack("<BBHI", self.tag, 0, 0, self.our_id) + algorithms
        return rmcp.packet20(Payload.OPEN_REQUEST, body)

    def open_response(self, packet: rmcp.Packet20) -> bool:
        """True when this is our answer; Reject when the BMC refuses."""
        body = self._mine(packet, Payload.OPEN_RESPONSE, self.tag, "open-session")
        if body is None or len(body) < 36:
            return False
        chosen = (body[16] & 0x3F, body[24] & 0x3F, body[32] & 0x3F)
        if chosen != (self.suite.auth, self.suite.integrity, self.suite.confidentiality):
            raise Reject(0x11, "open-session", f"BMC chose algorithms {chosen}, not the proposed ones")
        self.their_id = int.from_bytes(body[8:12], "little")
        return True

    def rakp1(self) -> bytes:
        body = (
            struct.pack("<BxxxI", self.tag + 1, self.their_id) + self._ours + bytes((NAME_ONLY | self.privilege, 0, 0))
        )
        return rmcp.packet20(Payload.RAKP1, body + bytes((len(self.user),)) + self.user)

    def rakp2(self, packet: rmcp.Packet20) -> bool:
        """Checks that the BMC knows the password, and derives the session key."""
        body = self._mine(packet, Payload.RAKP2, self.tag + 1, "rakp2")
        size = self.suite.auth_size
        if body is None or len(body) < 40 + size:
            return False
        theirs, guid = body[8:24], body[24:40]
        ids = struct.pack("<II", self.our_id, self.their_id)
        expected = self.suite.exchange_code(self.password, ids, self._ours, theirs, guid, self._who)
        if not hmac.compare_digest(expected, body[40 : 40 + size]):
            raise Reject(0x0F, "rakp2", "password")
        self._theirs, self._guid = theirs, guid
        self._sik = self.suite.exchange_code(self.kg, self._ours, theirs, self._who)
        return True

    def rakp3(self) -> bytes:
        code = self.suite.exchange_code(self.password, self._theirs, struct.pack("<I", self.our_id), self._who)
        return rmcp.packet20(Payload.RAKP3, struct.pack("<BxxxI", self.tag + 2, self.their_id) + code)

    def rakp4(self, packet: rmcp.Packet20) -> Keys | None:
        """Checks that the BMC has the same session key: the last proof, also of K_g."""
        body = self._mine(packet, Payload.RAKP4, self.tag + 2, "rakp4")
        if body is None:
            return None
        expected = self.suite.rakp4_code(self._sik, self._ours, struct.pack("<I", self.their_id), self._guid)
        if not hmac.compare_digest(expected, body[8 : 8 + len(expected)]):
            raise Reject(0x0F, "rakp4", "kg")
        k1 = self.suite.exchange_code(self._sik, b"\x01" * 20)
        k2 = self.suite.exchange_code(self._sik, b"\x02" * 20)
        return Keys(self.suite, self.our_id, self.their_id, k1, k2[:16], self._guid)

    def _mine(self, packet: rmcp.Packet20, kind: int, tag: int, stage: str) -> bytes | None:
        body = packet.payload
        if packet.payload_type != kind or len(body) < 2:
            return None
        # OpenBMC has been seen to answer RAKP 1 with tag 0; the session id still says whose it is.
        if body[0] != tag and not (body[0] == 0 and kind != Payload.OPEN_RESPONSE):
            return None
        if len(body) >= 8 and body[4:8] != b"\x00" * 4 and int.from_bytes(body[4:8], "little") != self.our_id:
            return None
        if body[1]:
            raise Reject(body[1], stage)
        return body if len(body) >= 8 and int.from_bytes(body[4:8], "little") == self.our_id else None
