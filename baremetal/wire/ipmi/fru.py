"""A FRU inventory area: chassis, board and product (Platform Management FRU Information Storage Definition 1.0)."""

from __future__ import annotations

from baremetal.wire.ipmi.message import checksum

_END = 0xC1


def _field(text: str) -> bytes:
    """8-bit ASCII type/length byte and the text, at most 63 bytes; never of length 1, which reads as end (C1h)."""
    raw = text.encode("latin-1", "replace")[:63]
    if len(raw) == 1:
        raw += b" "
    return bytes((0xC0 | len(raw),)) + raw


def _area(body: bytes) -> bytes:
    """Version, length in units of 8 bytes, body, end mark, padding, checksum."""
    size = -(-(len(body) + 4) // 8) * 8
    area = (bytes((1, size // 8)) + body + bytes((_END,))).ljust(size - 1, b"\0")
    return area + bytes((checksum(area),))


def build(*, vendor: str, product: str, serial: str, asset: str = "", size: int = 256) -> bytes:
    """The whole area, padded to `size` bytes as a small EEPROM is."""
    chassis = _area(bytes((0x17,)) + _field(f"{product}-CH") + _field(serial))
    board = _area(bytes((0, 0, 0, 0)) + b"".join(map(_field, (vendor, product, serial, f"{product}-B", ""))))
    names = (vendor, product, f"{product}-1", "1.0", serial, asset, "")
    goods = _area(bytes((0,)) + b"".join(map(_field, names)))
    at = 8
    offsets = []
    for area in (chassis, board, goods):
        offsets.append(at // 8)
        at += len(area)
    head = bytes((1, 0, *offsets, 0, 0))
    return (head + bytes((checksum(head),)) + chassis + board + goods).ljust(size, b"\0")
