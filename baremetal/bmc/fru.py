"""Reads a FRU device (IPMI Platform Management FRU Information Storage Definition 1.3).

Reads the common header, then only as far as the last area in use; smaller
pieces when the BMC says the piece was too long.
"""

from __future__ import annotations

from baremetal.bmc import guid
from baremetal.bmc.link import STORAGE, IpmiBmc

# Nobody's chassis, board and product areas need more; a BMC that claims 64 KiB is not believed.
LARGEST_BYTES = 4096
_TOO_LONG = {0xC7, 0xC8, 0xCA, 0xFF}
_BCD_PLUS = "0123456789 -.:,_"
_BOARD = ("board_manufacturer", "board_product", "board_serial", "board_part", "board_fru_file")
_PRODUCT = (
    "product_manufacturer",
    "product_name",
    "product_part",
    "product_version",
    "product_serial",
    "product_asset_tag",
)
_CHASSIS = ("chassis_part", "chassis_serial")


async def read(bmc: IpmiBmc, device: int) -> dict[str, str]:
    """The texts of one FRU device, {} when there is none or it is damaged."""
    answer = await bmc.link.command(STORAGE, 0x10, bytes([device]))
    if answer.code or len(answer.data) < 3:
        return {}
    size = min(int.from_bytes(answer.data[:2], "little"), LARGEST_BYTES)
    words = answer.data[2] & 1
    if words:  # accessed by words: rare, offsets count differently
        return {}
    data = await _bytes(bmc, device, 0, min(size, bmc.quirks.fru_read_bytes))
    end = min(_end(data), size)
    if end > len(data):
        data += await _bytes(bmc, device, len(data), end - len(data))
        end = min(_end(data), size)  # the last area's length was not known before
        if end > len(data):
            data += await _bytes(bmc, device, len(data), end - len(data))
    return decode(data)


async def _bytes(bmc: IpmiBmc, device: int, start: int, count: int) -> bytes:
    piece = max(16, min(bmc.quirks.fru_read_bytes, 255))
    data = b""
    while len(data) < count:
        want = min(piece, count - len(data))
        offset = (start + len(data)).to_bytes(2, "little")
        answer = await bmc.link.command(STORAGE, 0x11, bytes([device]) + offset + bytes([want]))
        if answer.code in _TOO_LONG and piece > 8:
            piece //= 2
            continue
        if answer.code or len(answer.data) < 2:
            break
        gained = answer.data[1 : 1 + min(answer.data[0], want)]
        if not gained:
            break
        data += gained
    return data


def _end(data: bytes) -> int:
    """Offset behind the last area that starts in the header; areas whose length is not read yet count 2 bytes."""
    if len(data) < 8 or sum(data[:8]) & 0xFF:
        return 0
    end = 8
    for start in (offset * 8 for offset in data[2:5] if offset):
        end = max(end, start + (data[start + 1] * 8 if len(data) > start + 1 else 2))
    return end


def decode(data: bytes) -> dict[str, str]:
    """Header and areas to named texts; placeholders and damaged areas are left out."""
    if len(data) < 8 or data[0] & 15 != 1 or sum(data[:8]) & 0xFF:
        return {}
    found: dict[str, str] = {}
    for offset, skip, names in ((data[2], 3, _CHASSIS), (data[3], 6, _BOARD), (data[4], 3, _PRODUCT)):
        area = _area(data, offset * 8) if offset else b""
        if area:
            found |= _fields(area, skip, names)
    return found


def _area(data: bytes, start: int) -> bytes:
    if len(data) < start + 2:
        return b""
    area = data[start : start + data[start + 1] * 8]
    complete = len(area) == data[start + 1] * 8 and len(area) >= 8
    return area if complete and not sum(area) & 0xFF else b""


def _fields(area: bytes, start: int, names: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    english = start == 3 or area[2] in (0, 25)
    for name in names:
        if start >= len(area) - 1 or area[start] == 0xC1:
            break
        kind, length = area[start] >> 6, area[start] & 0x3F
        text = guid.present(text_of(kind, area[start + 1 : start + 1 + length], english))
        if text:
            found[name] = text
        start += 1 + length
    return found


def text_of(kind: int, raw: bytes, english: bool = True) -> str:
    """A type/length field: binary, BCD plus, 6-bit ASCII, or 8-bit text (UTF-16 when the area is not English)."""
    if kind == 0:
        return raw.hex()
    if kind == 1:
        return "".join(_BCD_PLUS[octet >> 4] + _BCD_PLUS[octet & 15] for octet in raw)
    if kind == 2:
        bits = int.from_bytes(raw, "little")
        return "".join(chr(0x20 + (bits >> shift & 0x3F)) for shift in range(0, len(raw) * 8 - 5, 6))
    if english or len(raw) % 2:
        return raw.decode("latin-1")
    return raw.decode("utf-16-le", "replace")
