"""SHA-512 crypt(5) texts of passwords, as /etc/shadow has them. Python's own crypt module ends with 3.12.

Source: Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512" (2008), the algorithm's 21 steps.
"""

from __future__ import annotations

import hashlib
import secrets

ROUNDS = 5000
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def hashed(password: str, salt: str | None = None) -> str:
    """The text `$6$salt$…`; a random salt by default."""
    chosen = salt if salt is not None else "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return f"$6${chosen}${_encode(_digest(password.encode(), chosen.encode()))}"


def _digest(key: bytes, salt: bytes) -> bytes:
    alternate = hashlib.sha512(key + salt + key).digest()
    first = hashlib.sha512(key + salt + _repeat(alternate, len(key)))
    length = len(key)
    while length:
        first.update(alternate if length & 1 else key)
        length >>= 1
    digest = first.digest()
    p = _repeat(hashlib.sha512(key * len(key)).digest(), len(key))
    s = _repeat(hashlib.sha512(salt * (16 + digest[0])).digest(), len(salt))
    for n in range(ROUNDS):
        start = p if n & 1 else digest
        end = digest if n & 1 else p
        digest = hashlib.sha512(start + (s if n % 3 else b"") + (p if n % 7 else b"") + end).digest()
    return digest


def _repeat(block: bytes, length: int) -> bytes:
    return (block * (length // len(block) + 1))[:length]


def _encode(digest: bytes) -> str:
    """Three bytes become four characters; the order of bytes is the specification's."""
    out = []
    for n in range(21):
        a, b, c = (digest[n + k * 21] for k in range(3))
        triple = [(a, b, c), (b, c, a), (c, a, b)][n % 3]
        out.append(_four(triple[0] << 16 | triple[1] << 8 | triple[2], 4))
    return "".join(out) + _four(digest[63], 2)


def _four(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * n & 63] for n in range(count))
