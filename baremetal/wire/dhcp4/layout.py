"""Reads the options of messages that are laid out like an earlier one in one go. No I/O.

    read = Layouts().read      # what packet.read does, at half its cost

Machines of one kind send the same options in the same order, and only some
values differ. Where codes and lengths stood in the last message of this size
is remembered as a bit mask; a message that has the very same ones there is cut
without a walk. Any other is walked.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

from baremetal.wire.dhcp4.packet import COOKIE, MAGIC, OPTIONS, SHORTEST, read

Cut = Callable[[bytes], tuple[bytes, ...]]
# mask and marks: the cookie, every code and every length, as one number; codes and where their values lie.
Layout = tuple[int, int, tuple[int, ...], Cut]


class Layouts:
    """One layout a message size. `size` cannot outgrow 64 KiB, so neither can this."""

    def __init__(self) -> None:
        self._known: dict[int, Layout | None] = {}

    def read(self, data: bytes) -> dict[int, bytes]:
        """The options of a message, as packet.read gives them; BadPacket as there."""
        known = self._known.get(len(data))
        if known is not None:
            mask, marks, codes, cut = known
            if int.from_bytes(data[COOKIE:], "big") & mask == marks:
                return dict(zip(codes, cut(data), strict=True))
        options = read(data)
        self._known[len(data)] = layout_of(data, options)
        return options


def layout_of(data: bytes, options: dict[int, bytes]) -> Layout | None:
    """Where the options of a message that was read stand. None: split options, overload, or too few to be worth it."""
    if len(data) < SHORTEST or data[COOKIE:OPTIONS] != MAGIC or 52 in options:
        return None
    mask = bytearray(len(data) - COOKIE)
    mask[: len(MAGIC)] = b"\xff" * len(MAGIC)
    cuts: list[slice] = []
    at = OPTIONS
    while at < len(data):
        mask[at - COOKIE] = 0xFF
        if data[at] == 255:
            break
        if data[at] == 0:
            at += 1
            continue
        mask[at + 1 - COOKIE] = 0xFF
        start, at = at + 2, at + 2 + data[at + 1]
        cuts.append(slice(start, at))
    if len(cuts) != len(options) or len(cuts) < 2:  # fewer pieces come out of itemgetter as something else
        return None
    bits = int.from_bytes(mask, "big")
    return bits, bits & int.from_bytes(data[COOKIE:], "big"), tuple(options), itemgetter(*cuts)
