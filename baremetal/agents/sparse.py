"""Writes decompressed chunks to a disk, long runs of zeros as "make this read zero"."""

from __future__ import annotations

import ctypes
import mmap
from typing import Iterator, Tuple

from baremetal.agents.blockdev import MIB, Target

GRAIN = 64 * 1024  # bytes; shorter runs of zeros are cheaper written than commanded
_LONGEST = 1024 * MIB  # a zeroing command is never longer than this, so that progress moves


class Buffer:
    """Page-aligned memory of a fixed size, as O_DIRECT wants it."""

    def __init__(self, size: int) -> None:
        self.map = mmap.mmap(-1, size)
        self.view = memoryview(self.map)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self._memcmp = ctypes.CDLL(None).memcmp
        self._memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

    def is_zero(self, start: int, end: int) -> bool:
        """All bytes zero: the first one is, and each equals its neighbour (memcmp stops at the first that is not)."""
        at = self._base + start
        return self.view[start] == 0 and self._memcmp(at, at + 1, end - start - 1) == 0

    def runs(self, length: int) -> Iterator[Tuple[int, int, bool]]:
        """(start, end, zero?) covering 0…length in alternating runs of whole grains."""
        start, kind = 0, False
        for at in range(0, length, GRAIN):
            zero = self.is_zero(at, min(at + GRAIN, length))
            if at and zero != kind:
                yield start, at, kind
                start = at
            kind = zero
        yield start, length, kind


class SparseWriter:
    """Writes buffers in rising order; zeros are gathered over chunk borders."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._zero_from = self._zero_to = 0
        self.written = 0  # bytes of data
        self.zeroed = 0  # bytes that were made zero by command

    def put(self, offset: int, buffer: Buffer, length: int) -> None:
        """`length` bytes of `buffer` at `offset` of the disk, padded with zeros to whole sectors."""
        padded = -(-length // self._target.sector) * self._target.sector
        if padded > length:
            buffer.view[length:padded] = bytes(padded - length)
        for start, end, zero in buffer.runs(padded):
            if zero:
                self.zeros(offset + start, end - start)
            else:
                self.flush()
                self._target.write(offset + start, buffer.view[start:end])
                self.written += end - start

    def zeros(self, offset: int, length: int) -> None:
        """A run of zeros: kept back until it ends."""
        if self._zero_to != offset or self._zero_to - self._zero_from + length > _LONGEST:
            self.flush()
            self._zero_from = offset
        self._zero_to = offset + length

    def flush(self) -> None:
        length = self._zero_to - self._zero_from
        if length:
            self._target.zero(self._zero_from, -(-length // self._target.sector) * self._target.sector)
            self.zeroed += length
        self._zero_from = self._zero_to
