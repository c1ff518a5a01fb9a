"""Windows, padding, framing."""

from __future__ import annotations

import pytest

from baremetal.wire.ipmi import crypto
from baremetal.wire.ipmi.session import Window


@pytest.mark.parametrize(
    ("numbers", "accepted"),
    [
        ([1, 2, 3], [True, True, True]),
        ([1, 1], [True, False]),
        ([5, 3, 4, 3], [True, True, True, False]),
        ([20, 4], [True, False]),
        ([20, 5], [True, True]),
        ([1, 1025, 3000], [True, True, False]),
        ([4000000000], [True]),
    ],
)
def test_window(numbers, accepted):
    window = Window()
    assert [window.accept(n) for n in numbers] == accepted


@pytest.mark.parametrize("size", [0, 1, 14, 15, 16, 17, 200])
def test_encryption_and_back(size):
    key, iv, payload = bytes(16), bytes(range(16)), bytes(i & 0xFF for i in range(size))
    sealed = crypto.encrypt(key, payload, iv)
    assert len(sealed) % 16 == 0
    assert crypto.decrypt(key, sealed) == payload


@pytest.mark.parametrize("bad", [b"", bytes(16), bytes(31), bytes(32)])
def test_broken_ciphertext_is_none(bad):
    assert crypto.decrypt(bytes(16), bad) is None
