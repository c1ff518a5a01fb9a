"""Writes a raw disk as compressed qcow2 (docs/interop/qcow2.txt of QEMU), the same bytes each time.

Clusters that are as they were in the base disk are not compressed again: their
frames are kept beside it (`Frames`). Layout: header, refcount table, refcount
blocks, L1, L2 tables, then the data, packed without gaps.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from baremetal.images import rereading, zst
from baremetal.images.bases import as_kept, data_extents, stamped

MAGIC = b"QFI\xfb"
ZLIB, ZSTD = 0, 1
LEVEL = 3  # zstd; qemu-img's own
_COMPRESSED, _COPIED = 1 << 62, 1 << 63
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_HEADER_LENGTH = 112


@dataclass
class Frames:
    """Compressed clusters of a base disk: (offset, length) in one file for each cluster that is not all zeros."""

    disk: Path
    data: Path
    places: dict[int, tuple[int, int]]


def frames_of(disk: Path, cluster: int, compression: str) -> Frames:
    """The compressed clusters of a kept disk; compressed now when they are not there."""
    stem = disk.parent / f"clusters-{cluster}-{compression}"
    data, index = stem.with_suffix(".bin"), stem.with_suffix(".json")
    try:
        kept = json.loads(index.read_text())
        if as_kept(data, kept):
            return Frames(disk, data, {int(number): (a, b) for number, (a, b) in kept["places"].items()})
    except (OSError, ValueError, KeyError, TypeError):
        pass
    places = {}
    draft = data.with_suffix(".new")
    with open(disk, "rb") as file, open(draft, "wb") as out:
        for number, frame in _compressed(file, cluster, compression, None):
            if frame is not None:
                places[number] = (out.tell(), len(frame))
                out.write(frame)
    os.replace(draft, data)
    index.write_text(json.dumps({**stamped(data), "places": places}))
    rereading.was_read(data)
    return Frames(disk, data, places)


def write(raw: Path, target: Path, *, cluster: int, compression: str, frames: Frames | None = None) -> None:
    """The whole image. `compression`: zstd, zlib or none."""
    size = raw.stat().st_size
    count = -(-size // cluster)
    per_l2 = cluster // 8
    l1_entries = -(-count // per_l2)
    with open(raw, "rb") as file, open(target, "w+b") as out:
        used = _l2_tables_used(file, size, cluster, per_l2)
        # No more host clusters than guest clusters, tables and one for each straddle.
        tables = -(-l1_entries * 8 // cluster) + len(used)
        blocks = -(-(2 * count + tables + 8) // (cluster // 2))
        l1_at = (2 + blocks) * cluster
        l2_at = {table: l1_at + (-(-l1_entries * 8 // cluster) + i) * cluster for i, table in enumerate(used)}
        at = l1_at + tables * cluster
        entries: dict[int, int] = {}
        host: dict[int, int] = dict.fromkeys(range(at // cluster), 1)
        for number, frame in _compressed(file, cluster, compression, frames):
            if frame is None:  # does not shrink, or is not to be compressed
                at = -(-at // cluster) * cluster
                file.seek(number * cluster)
                body = file.read(cluster)
                entries[number] = at | _COPIED
            else:
                body = frame
                entries[number] = _descriptor(at, len(frame), cluster)
            out.seek(at)
            out.write(body)
            for piece in range(at // cluster, (at + len(body) - 1) // cluster + 1):
                host[piece] = host.get(piece, 0) + 1
            at += len(body) if frame is not None else cluster
        os.truncate(out.fileno(), -(-at // 512) * 512)
        l1 = [l2_at[table] | _COPIED if table in l2_at else 0 for table in range(l1_entries)]
        _put(out, 0, _header(size, cluster, compression, l1_entries, l1_at))
        _put(out, cluster, struct.pack(f">{blocks}Q", *((2 + i) * cluster for i in range(blocks))))
        counts = [host.get(i, 0) for i in range(max(host) + 1)]
        _put(out, 2 * cluster, struct.pack(f">{len(counts)}H", *counts))
        _put(out, l1_at, struct.pack(f">{l1_entries}Q", *l1))
        for number, entry in entries.items():
            _put(out, l2_at[number // per_l2] + number % per_l2 * 8, struct.pack(">Q", entry))


def _put(out: BinaryIO, at: int, data: bytes) -> None:
    out.seek(at)
    out.write(data)


def _l2_tables_used(file: BinaryIO, size: int, cluster: int, per_l2: int) -> list[int]:
    span = cluster * per_l2
    used = {table for a, b in data_extents(file.fileno(), size) for table in range(a // span, (b - 1) // span + 1)}
    return sorted(used)


def _descriptor(at: int, length: int, cluster: int) -> int:
    """An L2 entry of a compressed cluster: byte offset, and how many more 512-byte sectors it touches."""
    shift = 62 - (cluster.bit_length() - 1 - 8)
    sectors = (at + length - 1) // 512 - at // 512
    return _COMPRESSED | sectors << shift | at


def _header(size: int, cluster: int, compression: str, l1_entries: int, l1_at: int) -> bytes:
    bits = cluster.bit_length() - 1
    incompatible = 8 if compression == "zstd" else 0
    fixed = _HEADER.pack(
        MAGIC, 3, 0, 0, bits, size, 0, l1_entries, l1_at, cluster, 1, 0, 0, incompatible, 0, 0, 4, _HEADER_LENGTH
    )
    return fixed + bytes([ZSTD if compression == "zstd" else ZLIB]) + bytes(_HEADER_LENGTH - len(fixed) - 1 + 8)


def _compressed(
    file: BinaryIO, cluster: int, compression: str, frames: Frames | None
) -> Iterator[tuple[int, bytes | None]]:
    """(number, frame) of every cluster that is not all zeros, in order; None for one that is stored as it is."""
    waiting: deque[tuple[int, Future[bytes | None] | bytes]] = deque()
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool, _Reuse(frames, cluster) as reuse:
        for number, data in _clusters(file, cluster):
            frame = reuse.frame(number, data)
            waiting.append((number, frame if frame is not None else pool.submit(_squeeze, data, cluster, compression)))
            if len(waiting) > workers * 2:
                yield _ready(waiting.popleft())
        while waiting:
            yield _ready(waiting.popleft())


def _ready(job: tuple[int, Future[bytes | None] | bytes]) -> tuple[int, bytes | None]:
    number, frame = job
    return number, frame if isinstance(frame, bytes) else frame.result()


def _clusters(file: BinaryIO, cluster: int) -> Iterator[tuple[int, bytes]]:
    size = os.fstat(file.fileno()).st_size
    zeros = bytes(cluster)
    after = 0
    for start, end in data_extents(file.fileno(), size):
        for number in range(max(after, start // cluster), -(-end // cluster)):
            data = os.pread(file.fileno(), cluster, number * cluster)
            after = number + 1
            if data != zeros and data != zeros[: len(data)]:
                yield number, data


def _squeeze(data: bytes, cluster: int, compression: str) -> bytes | None:
    if compression == "none":
        return None
    data = data.ljust(cluster, b"\0")
    if compression == "zstd":
        frame = zst.compress(data, LEVEL)
    else:
        engine = zlib.compressobj(6, zlib.DEFLATED, -12)
        frame = engine.compress(data) + engine.flush()
    return frame if len(frame) < cluster else None


class _Reuse:
    """Looks up the frame of a cluster that is the same in the base disk."""

    def __init__(self, frames: Frames | None, cluster: int) -> None:
        self.frames, self.cluster = frames, cluster

    def __enter__(self) -> _Reuse:
        self.disk = open(self.frames.disk, "rb") if self.frames else None
        self.data = open(self.frames.data, "rb") if self.frames else None
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.disk, self.data):
            if file:
                file.close()

    def frame(self, number: int, data: bytes) -> bytes | None:
        if not self.frames or not self.disk or not self.data or number not in self.frames.places:
            return None
        if os.pread(self.disk.fileno(), self.cluster, number * self.cluster) != data:
            return None
        at, length = self.frames.places[number]
        return os.pread(self.data.fileno(), length, at)
