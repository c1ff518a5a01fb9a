"""A session: its keys, its two sequence numbers, and sealed packets in and out (§13.27-13.32).

Both ends use it: a BMC opens with `open_` what a client sealed with `seal`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from baremetal.wire.ipmi import crypto, rmcp
from baremetal.wire.ipmi.crypto import Suite
from baremetal.wire.ipmi.users import User

_CONST_1 = b"\x01" * 20
_CONST_2 = b"\x02" * 20
_NEXT_HEADER = 0x07
# The specification's window is 8 back and 7 ahead. Ahead we allow more: clients jump after long silence.
_BEHIND = 16
_AHEAD = 1024


@dataclass(slots=True)
class Window:
    """Inbound sequence numbers: each at most once, old ones never (§6.12.13)."""

    highest: int = 0
    seen: int = 0

    def accept(self, seq: int) -> bool:
        """Is this number new? Remembers it."""
        ahead = seq - self.highest
        if ahead > 0:
            if ahead > _AHEAD and self.highest:
                return False
            self.seen = (self.seen << min(ahead, _BEHIND) | 1) & ((1 << _BEHIND) - 1)
            self.highest = seq
            return True
        bit = 1 << -ahead
        if -ahead >= _BEHIND or self.seen & bit:
            return False
        self.seen |= bit
        return True


@dataclass(slots=True, repr=False)
class Session:
    """One session from Open Session to Close. `role` is the privilege byte of RAKP 1, `peer` who speaks.

    `limit` is the highest privilege the session may raise itself to; `privilege`
    where it stands. `last_seen` is seconds of the caller's clock.
    """

    id: int
    remote_id: int
    suite: Suite
    asked: int
    peer: object = None
    last_seen: float = 0.0
    user: User | None = None
    role: int = 0
    limit: int = 0
    privilege: int = 0
    client_random: bytes = b""
    bmc_random: bytes = b""
    sik: bytes = b""
    k1: bytes = b""
    aes: bytes = b""
    active: bool = False
    commanded: bool = False
    seq_out: int = 0
    signed_in: Window = field(default_factory=Window)
    plain_in: Window = field(default_factory=Window)

    def __repr__(self) -> str:
        return f"Session(id={self.id:#x}, peer={self.peer}, active={self.active})"

    def derive(self, sik: bytes) -> None:
        """Make K1 and the AES key from the session integrity key (§13.32)."""
        self.sik = sik
        self.k1 = self.suite.exchange_code(sik, _CONST_1)
        self.aes = self.suite.exchange_code(sik, _CONST_2)[:16]

    def open_(self, packet: rmcp.Packet20) -> bytes | None:
        """The payload in the clear, or None: not as agreed, forged, replayed or broken."""
        suite = self.suite
        if packet.authenticated != bool(suite.integrity) or packet.encrypted != bool(suite.confidentiality):
            return None
        if suite.integrity and not self._signature_fits(packet):
            return None
        if not (self.signed_in if suite.integrity else self.plain_in).accept(packet.seq):
            return None
        return crypto.decrypt(self.aes, packet.payload) if packet.encrypted else packet.payload

    def _signature_fits(self, packet: rmcp.Packet20) -> bool:
        size = self.suite.integrity_size
        if len(packet.trailer) < size + 2:
            return False
        signed, code = packet.signed_part[:-size], packet.signed_part[-size:]
        return hmac.compare_digest(self.suite.sign(self.k1, signed), code)

    def seal(self, payload_type: int, payload: bytes, iv: bytes) -> bytes:
        """A datagram with the payload, encrypted and signed as agreed; `iv` is 16 fresh random bytes."""
        self.seq_out += 1
        kind = payload_type
        if self.suite.confidentiality:
            payload = crypto.encrypt(self.aes, payload, iv)
            kind |= 0x80
        if not self.suite.integrity:
            return rmcp.packet20(kind, payload, self.remote_id, self.seq_out)
        head = rmcp.header20(kind | 0x40, self.remote_id, self.seq_out, len(payload))
        pad = -(len(head) + len(payload) + 2) % 4
        signed = head + payload + b"\xff" * pad + bytes((pad, _NEXT_HEADER))
        return rmcp.framed(signed, self.suite.sign(self.k1, signed))
