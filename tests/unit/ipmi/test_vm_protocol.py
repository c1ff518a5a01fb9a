"""QEMU's way to an outside BMC: framing, escapes, broken messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baremetal.wire.ipmi.message import Request, checksum
from baremetal.wire.ipmi.vm import Decoder, response


def encoded(seq: int, netfn: int, cmd: int, data: bytes) -> bytes:
    body = bytes((seq, netfn << 2, cmd)) + data
    body += bytes((checksum(body),))
    return b"".join(bytes((0xAA, b | 0x10)) if b in (0xA0, 0xA1, 0xAA) else bytes((b,)) for b in body) + b"\xa0"


def test_request_and_answer():
    [request] = Decoder().feed(encoded(1, 6, 1, b""))
    assert (request.seq, request.netfn, request.cmd, request.data) == (1, 6, 1, b"")
    answer = response(request, b"\x00\xa0")
    assert answer == bytes((1, 0x1C, 1, 0, 0xAA, 0xB0, checksum(bytes((1, 0x1C, 1, 0, 0xA0))), 0xA0))


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40), st.integers(1, 5))
def test_any_message_in_any_pieces(seq, cmd, data, size):
    raw, decoder, out = encoded(seq, 6, cmd, data), Decoder(), []
    for at in range(0, len(raw), size):
        out += decoder.feed(raw[at : at + size])
    assert out == [Request(6, cmd, data, seq=seq)]


@pytest.mark.parametrize("raw", [b"\xa0", b"\x01\x18\xa0", b"\x01\x18\x01\x00\xa0", b"\xff\x01\xa1", b"\x08\x30\xa1"])
def test_broken_and_control_messages_are_dropped_and_the_next_is_read(raw):
    decoder = Decoder()
    assert decoder.feed(raw) == []
    assert len(decoder.feed(encoded(2, 6, 1, b""))) == 1


@given(st.binary(max_size=400))
def test_garbage(raw):
    Decoder().feed(raw)
