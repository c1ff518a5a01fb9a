"""Cipher suites of RMCP+: key exchange codes, packet integrity, payload encryption (§13.28-13.32, §22.15.1).

Pure functions over bytes. Suites 3 and 17 are what real fleets use; the weaker
ones are here so that audits have something to find.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_AUTH_HASH = {0: None, 1: "sha1", 3: "sha256"}
_AUTH_SIZE = {0: 0, 1: 20, 3: 32}
_RAKP4_SIZE = {0: 0, 1: 12, 3: 16}
_INTEGRITY_HASH = {0: None, 1: "sha1", 4: "sha256"}
_INTEGRITY_SIZE = {0: 0, 1: 12, 4: 16}
_BLOCK = 16
_PAD = bytes(range(1, _BLOCK + 1))


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite: its id and the numbers of its three algorithms."""

    id: int
    auth: int
    integrity: int
    confidentiality: int

    @property
    def record(self) -> bytes:
        """As Get Channel Cipher Suites lists it (table 22-18)."""
        return bytes((0xC0, self.id, self.auth, 0x40 | self.integrity, 0x80 | self.confidentiality))

    @property
    def auth_size(self) -> int:
        """Length in bytes of the key exchange codes in RAKP 2 and 3."""
        return _AUTH_SIZE[self.auth]

    @property
    def integrity_size(self) -> int:
        """Length in bytes of the code at the end of a signed packet."""
        return _INTEGRITY_SIZE[self.integrity]

    def exchange_code(self, key: bytes, *parts: bytes) -> bytes:
        """Key exchange authentication code of RAKP 2 and 3, and the HMAC that makes the session key."""
        name = _AUTH_HASH[self.auth]
        return hmac.digest(key, b"".join(parts), name) if name else b""

    def rakp4_code(self, sik: bytes, *parts: bytes) -> bytes:
        """Integrity check value of RAKP 4: truncated as the integrity algorithm's (§13.28.4)."""
        return self.exchange_code(sik, *parts)[: _RAKP4_SIZE[self.auth]]

    def sign(self, k1: bytes, data: bytes) -> bytes:
        """Authentication code of a packet."""
        name = _INTEGRITY_HASH[self.integrity]
        return hmac.digest(k1, data, name)[: self.integrity_size] if name else b""


SUITES: dict[int, Suite] = {
    s.id: s
    for s in (
        Suite(0, 0, 0, 0),
        Suite(1, 1, 0, 0),
        Suite(2, 1, 1, 0),
        Suite(3, 1, 1, 1),
        Suite(15, 3, 0, 0),
        Suite(16, 3, 4, 0),
        Suite(17, 3, 4, 1),
    )
}


# Whole blocks go in, so nothing is left to finalize. The key's checks are made once a session, not once a packet.
_aes = lru_cache(maxsize=1024)(algorithms.AES)


def encrypt(key: bytes, payload: bytes, iv: bytes) -> bytes:
    """AES-CBC-128 with IPMI's padding 01 02 03 … n (§13.29)."""
    pad = -(len(payload) + 1) % _BLOCK
    plain = payload + _PAD[:pad] + bytes((pad,))
    return iv + Cipher(_aes(key), modes.CBC(iv)).encryptor().update(plain)


def decrypt(key: bytes, data: bytes) -> bytes | None:
    """The payload, or None when length or padding is wrong."""
    if len(data) < 2 * _BLOCK or len(data) % _BLOCK:
        return None
    plain = Cipher(_aes(key), modes.CBC(data[:_BLOCK])).decryptor().update(data[_BLOCK:])
    pad = plain[-1]
    # Some clients pad a whole block (16); the specification allows at most 15. Taken, as BMCs do.
    if pad > _BLOCK or pad >= len(plain) or plain[-1 - pad : -1] != _PAD[:pad]:
        return None
    return plain[: -1 - pad]
