"""Signatures: RFC 8032 §7.1, agreement with OpenSSL, and everything that must be refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from baremetal.protocol import ed25519

VECTORS = [  # public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_rfc_8032_vector(key: str, message: str, signature: str) -> None:
    assert ed25519.verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("bit", [0, 100, 255, 256, 400, 511])
def test_one_flipped_bit_is_refused(bit: int) -> None:
    key, message, signature = (bytes.fromhex(t) for t in VECTORS[2])
    damaged = bytearray(signature)
    damaged[bit // 8] ^= 1 << bit % 8
    assert not ed25519.verify(key, message, bytes(damaged))
    assert not ed25519.verify(key, message + b"x", signature)


def test_agrees_with_openssl() -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    for length in (0, 1, 111, 112, 1000):
        message = bytes(range(256)) * 4
        assert ed25519.verify(public, message[:length], private.sign(message[:length]))


def test_a_second_form_of_the_same_signature_is_refused() -> None:
    key, message, signature = (bytes.fromhex(t) for t in VECTORS[0])
    larger = int.from_bytes(signature[32:], "little") + ed25519.L  # same value modulo the group order
    assert not ed25519.verify(key, message, signature[:32] + larger.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "key",
    [
        "0100000000000000000000000000000000000000000000000000000000000000",  # the neutral point
        "0000000000000000000000000000000000000000000000000000000000000000",  # of order 4
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # y = p + 1: not canonical
        "0200000000000000000000000000000000000000000000000000000000000000",  # not on the curve
        "0100000000000000000000000000000000000000000000000000000000000080",  # x = 0 with a sign
    ],
)
def test_a_key_nobody_owns_is_refused(key: str) -> None:
    # With the neutral point as key, R = neutral and S = 0 would "sign" every message.
    forged = (1).to_bytes(32, "little") + bytes(32)
    assert not ed25519.verify(bytes.fromhex(key), b"anything", forged)


@pytest.mark.parametrize(("key", "signature"), [(b"", b""), (bytes(31), bytes(64)), (bytes(32), bytes(63))])
def test_wrong_lengths_are_refused(key: bytes, signature: bytes) -> None:
    assert not ed25519.verify(key, b"", signature)


def test_key_text() -> None:
    assert ed25519.parse_public_key(VECTORS[0][0] + "\n") == bytes.fromhex(VECTORS[0][0])
    with pytest.raises(ValueError, match="32 bytes"):
        ed25519.parse_public_key("abcd")
