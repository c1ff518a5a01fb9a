"""Reads qcow2 without qemu-img: header checked, clusters mapped, nothing else opened.

An untrusted qcow2 can name a backing file or external data file on this
machine and have qemu-img read it; here such an image is refused, and every
offset is bounded by the file. Format: docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from baremetal.images import zst
from baremetal.images.errors import BadImage

MAGIC = b"QFI\xfb"
MAX_VIRTUAL = 4 << 40  # bytes; larger than any golden image, small enough for its tables
MAX_L1 = 32 << 20  # bytes of L1 table
MAX_CLUSTERS = 1 << 26  # 4 TiB of 64 KiB clusters; bounds the time a hostile image takes
LEAST = 8  # bytes of a compressed cluster; deflate needs 10 for 512 equal ones
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_OFFSET = 0x00FFFFFFFFFFFE00
_COPIED_ZERO, _COMPRESSED = 1, 1 << 62
_DIRTY, _CORRUPT, _EXTERNAL, _COMPRESSION, _EXTENDED_L2 = 1, 2, 4, 8, 16


@dataclass(frozen=True)
class Header:
    """What decides how the rest is read. Sizes in bytes."""

    virtual_size: int
    cluster_bits: int
    l1_offset: int
    l1_entries: int
    zstd: bool


def is_qcow2(head: bytes) -> bool:
    return head[:4] == MAGIC


def inspect(file: BinaryIO, name: str) -> Header:
    """The header of an image that is safe to read; BadImage says why it is not."""
    file.seek(0)
    head = file.read(512)
    if len(head) < 72 or not is_qcow2(head):
        raise BadImage(f"{name}: not a qcow2 image")
    fields = _HEADER.unpack(head[: _HEADER.size])
    version, backing, bits, virtual, crypt = fields[1], fields[2], fields[4], fields[5], fields[6]
    l1_entries, l1_offset, snapshots = fields[7], fields[8], fields[11]
    if version not in (2, 3):
        raise BadImage(f"{name}: qcow2 version {version} is not known")
    if backing:
        raise BadImage(
            f"{name}: has a backing file; it would read other files of this machine",
            fix="make it whole first: qemu-img convert -O qcow2 IN OUT, where you trust it",
        )
    if crypt:
        raise BadImage(f"{name}: is encrypted")
    if snapshots:
        raise BadImage(f"{name}: holds {snapshots} internal snapshots", fix="remove them: qemu-img snapshot -d")
    if not 9 <= bits <= 21:
        raise BadImage(f"{name}: cluster size 2^{bits} is out of bounds")
    if not 0 < virtual <= MAX_VIRTUAL or virtual % 512:
        raise BadImage(f"{name}: virtual size {virtual} is out of bounds")
    if virtual >> bits > MAX_CLUSTERS:
        raise BadImage(f"{name}: {virtual >> bits} clusters of {1 << bits} bytes are too many")
    zstd = _features(head, version, name)
    size = file.seek(0, os.SEEK_END)
    per_l2 = 1 << (bits - 3)
    needed = -(-virtual // (per_l2 << bits))
    if l1_entries < needed or l1_entries * 8 > MAX_L1 or l1_offset % 512 or l1_offset + l1_entries * 8 > size:
        raise BadImage(f"{name}: its L1 table lies outside the file")
    return Header(virtual, bits, l1_offset, needed, zstd)


def _features(head: bytes, version: int, name: str) -> bool:
    """True for zstd clusters; refuses what we do not read."""
    if version == 2:
        return False
    features = int.from_bytes(head[72:80], "big")
    length = int.from_bytes(head[100:104], "big")
    if features & _EXTERNAL:
        raise BadImage(f"{name}: keeps its data in an external file")
    if features & _CORRUPT:
        raise BadImage(f"{name}: is marked corrupt", fix="qemu-img check -r all, where you trust it")
    if features & _EXTENDED_L2:
        raise BadImage(f"{name}: uses extended L2 entries, which are not read here")
    if features & ~(_DIRTY | _COMPRESSION):
        raise BadImage(f"{name}: has incompatible features {features:#x} that are not known")
    kind = head[104] if features & _COMPRESSION and length >= 105 else 0
    if kind not in (0, 1):
        raise BadImage(f"{name}: compression type {kind} is not known")
    return kind == 1


class Reader:
    """The guest's disk, cluster by cluster."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.header = inspect(file, name)
        self.size = file.seek(0, os.SEEK_END)
        file.seek(self.header.l1_offset)
        raw = file.read(self.header.l1_entries * 8)
        self.l1 = struct.unpack(f">{self.header.l1_entries}Q", raw)
        self._start()

    def _start(self) -> None:
        self._l2_at, self._l2 = -1, b""  # the entry of the L1 table whose L2 table is at hand
        self._tables: set[int] = set()
        self._taken = 0  # bytes of the file that clusters were read from, at least

    def clusters(self) -> Iterator[bytes | None]:
        """Each cluster's bytes in order, None for zeros; the last may be cut to the disk's size."""
        self._start()
        bits = self.header.cluster_bits
        count = -(-self.header.virtual_size // (1 << bits))
        for index in range(count):
            data = self._cluster(index)
            left = self.header.virtual_size - (index << bits)
            yield data[:left] if data is not None and left < 1 << bits else data

    def _cluster(self, index: int) -> bytes | None:
        bits = self.header.cluster_bits
        table = self.l1[index >> (bits - 3)] & _OFFSET
        if not table:
            return None
        if index >> (bits - 3) != self._l2_at:
            if table in self._tables:
                raise self._twice()
            self._tables.add(table)
            self._l2, self._l2_at = self._read(table, 1 << bits), index >> (bits - 3)
        at = (index & ((1 << (bits - 3)) - 1)) * 8
        entry = int.from_bytes(self._l2[at : at + 8], "big")
        if entry & _COMPRESSED:
            self._take(LEAST)
            return self._compressed(entry)
        if entry & _COPIED_ZERO or not entry & _OFFSET:
            return None
        self._take(1 << bits)
        return self._read(entry & _OFFSET, 1 << bits)

    def _take(self, length: int) -> None:
        """Without snapshots every byte of the file belongs to one cluster: a few cannot make terabytes."""
        self._taken += length
        if self._taken > self.size + (1 << self.header.cluster_bits):
            raise self._twice()

    def _twice(self) -> BadImage:
        return BadImage(
            f"{self.name}: refers to the same bytes more than once", fix="qemu-img check, where you trust it"
        )

    def _compressed(self, entry: int) -> bytes:
        bits = self.header.cluster_bits
        shift = 62 - (bits - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = ((entry >> shift) & ((1 << (62 - shift)) - 1)) + 1
        length = sectors * 512 - (offset & 511)
        data = self._read(offset, length, short=True)
        try:
            if self.header.zstd:
                out = zst.decompress(data, 1 << bits)
            else:
                out = zlib.decompressobj(-12).decompress(data, 1 << bits)
        except zlib.error as exc:
            raise BadImage(f"{self.name}: a compressed cluster is damaged", detail=str(exc)) from exc
        if len(out) != 1 << bits:
            raise BadImage(f"{self.name}: a compressed cluster is cut short")
        return out

    def _read(self, offset: int, length: int, *, short: bool = False) -> bytes:
        if offset >= self.size or (not short and offset + length > self.size + (1 << self.header.cluster_bits)):
            raise BadImage(f"{self.name}: points outside itself (offset {offset})")
        self.file.seek(offset)
        data = self.file.read(length)
        return data if short else data.ljust(length, b"\0")


def disk_chunks(path: Path, size: int) -> Iterator[bytes | None]:
    """The disk in pieces of `size` bytes (the last may be shorter), None for all zeros."""
    with open(path, "rb") as file:
        reader = Reader(file, path.name)
        step = 1 << reader.header.cluster_bits
        parts: list[bytes | None] = []
        have = 0
        left = reader.header.virtual_size
        for data in reader.clusters():
            length = min(step, left)
            left -= length
            parts.append(data if data is None or len(data) == length else data[:length])
            have += length
            if have >= size or not left:
                yield _join(parts, step, have)
                parts, have = [], 0


def _join(parts: list[bytes | None], step: int, have: int) -> bytes | None:
    if all(part is None for part in parts):
        return None
    whole = b"".join(bytes(step) if part is None else part for part in parts)[:have]
    return whole if whole.count(0) != len(whole) else None
