"""Sizes in text: 512MiB, 1.5GiB, 2G, 4096."""

from __future__ import annotations

import re

from baremetal.images.errors import BadDefinition

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?b)?\s*", re.IGNORECASE)


def parse_size(text: object) -> int:
    """Bytes in `text`; units are powers of 1024 with or without the i."""
    match = _SIZE.fullmatch(str(text))
    if not match:
        raise BadDefinition(f"bad size {text!r}", fix="write it like 512MiB or 2GiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def show_size(size_bytes: float) -> str:
    """For people: 3.2 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.2f} GiB"
