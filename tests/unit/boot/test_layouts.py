"""Reading options by a remembered layout gives what the walk gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.dhcp4.layout import Layouts, layout_of

OPTIONS = {53: b"\1", 55: b"\1\3\6", 93: b"\0\7", 60: b"PXEClient"}


def message(options: dict[int, bytes], file: bytes = b"") -> bytes:
    return p.build(p.Packet(1, 1, 7, "52:54:00:00:00:01", file=file, options=options))


ROWS = [  # a message, and what the next one of the same size differs in
    ("values", OPTIONS, {**OPTIONS, 53: b"\3", 93: b"\0\0"}),
    ("codes", OPTIONS, {61: b"\1", 55: b"\1\3\6", 93: b"\0\7", 60: b"PXEClient"}),
    ("lengths", OPTIONS, {53: b"\1", 55: b"\1\3", 93: b"\0\7\0", 60: b"PXEClient"}),
    ("order", OPTIONS, dict(reversed(OPTIONS.items()))),
    ("overload", {**OPTIONS, 57: b"\1"}, {**OPTIONS, 52: b"\1"}),
    ("one option", {53: b"\1"}, {53: b"\3"}),
    ("BOOTP", {}, {53: b"\1"}),
]


@pytest.mark.parametrize(("first", "second"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_next_message_of_the_same_size(first: dict[int, bytes], second: dict[int, bytes]) -> None:
    layouts = Layouts()
    for options in (first, second, first, second):
        data = message(options, file=b"\x0c\x02ab\xff")
        assert layouts.read(data) == p.read(data)


def test_split_options_are_joined_every_time() -> None:
    split = message(OPTIONS).replace(b"\x37\x03\1\3\6", b"\x37\x01\1\x37\0", 1)
    layouts = Layouts()
    for _ in range(3):
        assert layouts.read(split) == p.read(split)
    assert layout_of(split, p.read(split)) is None


@given(st.lists(st.binary(max_size=60), min_size=2, max_size=8))
def test_any_bytes_after_any_bytes(areas: list[bytes]) -> None:
    layouts = Layouts()
    for area in areas + areas:
        data = (bytes(236) + p.MAGIC + area).ljust(300, b"\0")
        try:
            wanted = p.read(data)
        except p.BadPacket:
            with pytest.raises(p.BadPacket):
                layouts.read(data)
        else:
            assert layouts.read(data) == wanted


def test_captured_firmware_has_layouts() -> None:
    from scapy.layers.dhcp import BOOTP
    from scapy.utils import rdpcap

    layouts = Layouts()
    for capture in sorted((Path(__file__).parents[2] / "data" / "boot").glob("*.pcap")):
        for packet in rdpcap(str(capture)):
            if BOOTP in packet:
                data = bytes(packet[BOOTP])
                assert layouts.read(data) == p.read(data)
                assert layout_of(data, p.read(data)) is not None
