"""Verifies Ed25519 signatures (RFC 8032) with nothing but integers and SHA-512.

The deploy ramdisk and the node agents check the image manifest and the metadata
document with this; they ship no crypto library. Verification only handles
public data, so nothing here needs constant time. Signing is the server's, by
the cryptography package. Strict: canonical encodings only, S below the group
order, cofactorless equation, small-order keys refused.
"""

from __future__ import annotations

import hashlib
from typing import List, Optional, Tuple

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493  # order of the base point
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)

Point = Tuple[int, int, int, int]  # extended coordinates X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z
NEUTRAL: Point = (0, 1, 1, 0)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Was `message` signed by the owner of `public_key` (32 bytes)? `signature` is R || S, 64 bytes."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    key = _decode(public_key)
    point_r = _decode(signature[:32])
    scalar_s = int.from_bytes(signature[32:], "little")
    if key is None or point_r is None or scalar_s >= L or _small_order(key):
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    k = int.from_bytes(digest, "little") % L
    # S·B = R + k·A  <=>  S·B + k·(-A) = R
    found = _two_products(scalar_s, _base(), k, _negative(key))
    return _same(found, point_r)


def parse_public_key(text: str) -> bytes:
    """The raw key of its 64 hex characters; ValueError when it is none."""
    raw = bytes.fromhex(text.strip())
    if len(raw) != 32:
        raise ValueError(f"an Ed25519 public key has 32 bytes, this has {len(raw)}")
    return raw


def _add(a: Point, b: Point) -> Point:
    """RFC 8032 §5.1.4."""
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    aa = (y1 - x1) * (y2 - x2) % P
    bb = (y1 + x1) * (y2 + x2) % P
    cc = 2 * t1 * t2 * D % P
    dd = 2 * z1 * z2 % P
    e, f, g, h = bb - aa, dd - cc, dd + cc, bb + aa
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _double(a: Point) -> Point:
    """RFC 8032 §5.1.4, four squarings."""
    x, y, z, _ = a
    aa = x * x % P
    bb = y * y % P
    h = aa + bb
    e = h - (x + y) * (x + y) % P
    g = aa - bb
    f = 2 * z * z % P + g
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _negative(a: Point) -> Point:
    x, y, z, t = a
    return (-x % P, y, z, -t % P)


def _two_products(m: int, a: Point, n: int, b: Point) -> Point:
    """m·a + n·b, two bits of each at a time (Straus)."""
    table = _table(a, b)
    total = NEUTRAL
    top = max(m.bit_length(), n.bit_length())
    for shift in range((top + 1) // 2 * 2 - 2, -2, -2):
        total = _double(_double(total))
        index = (m >> shift & 3) << 2 | (n >> shift & 3)
        if index:
            total = _add(total, table[index])
    return total


def _table(a: Point, b: Point) -> List[Point]:
    """i·a + j·b at index 4i + j, i and j in 0…3."""
    table = []
    of_a = NEUTRAL
    for _ in range(4):
        both = of_a
        for _ in range(4):
            table.append(both)
            both = _add(both, b)
        of_a = _add(of_a, a)
    return table


def _decode(raw: bytes) -> Optional[Point]:
    """RFC 8032 §5.1.3; None when it is no point, or not its one canonical encoding."""
    y = int.from_bytes(raw, "little")
    sign = y >> 255
    y &= (1 << 255) - 1
    if y >= P:
        return None
    x = _x_of(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def _x_of(y: int, sign: int) -> Optional[int]:
    u = (y * y - 1) % P
    v = (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * SQRT_M1 % P
    if v * x * x % P != u:
        return None
    if x == 0 and sign:
        return None
    return P - x if x & 1 != sign else x


def _base() -> Point:
    """The base point: y = 4/5, x even. Its x is written out to spare two exponentiations."""
    x = 15112221349535400772501151409588531511454012693041857206046113283949847762202
    y = 46316835694926478169428394003475163141307993866256225615783033603165251855960
    return (x, y, 1, x * y % P)


def _small_order(a: Point) -> bool:
    return _same(_double(_double(_double(a))), NEUTRAL)


def _same(a: Point, b: Point) -> bool:
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0
