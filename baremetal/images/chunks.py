"""A raw disk becomes independent zstd frames of 4 MiB, and back.

Every chunk has its frame in raw.zst, so that `zstd -d` of the whole file gives
the raw disk; for a chunk of zeros the manifest says zsize 0 and the place of
its tiny frame, which a node skips without reading.
"""

from __future__ import annotations

import collections
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from baremetal.images import qcow2, zst
from baremetal.images.errors import BadImage
from baremetal.model.image import Chunk

CHUNK = 4 << 20
LEVEL = 3


@dataclass(frozen=True)
class Written:
    """What pack() wrote. Sizes in bytes, digest as hex."""

    raw_size: int
    zst_size: int
    sha256: str
    chunks: tuple[Chunk, ...]


def source(path: Path) -> tuple[int, Iterator[bytes | None]]:
    """(size, chunks) of a qcow2 or raw disk image."""
    with open(path, "rb") as file:
        head = file.read(512)
        if qcow2.is_qcow2(head):
            return qcow2.inspect(file, path.name).virtual_size, qcow2.disk_chunks(path, CHUNK)
    size = path.stat().st_size
    if size == 0 or size % 512:
        raise BadImage(f"{path.name}: {size} bytes is not a disk", fix="give a raw disk image or a qcow2")
    if len(head) == 512 and head[510:512] != b"\x55\xaa":
        raise BadImage(f"{path.name}: neither qcow2 nor a partitioned raw disk", fix="give a whole disk image")
    return size, _raw_chunks(path, size)


def _raw_chunks(path: Path, size: int) -> Iterator[bytes | None]:
    """Pieces of a raw file; holes are not read."""
    with open(path, "rb") as file:
        for start in range(0, size, CHUNK):
            length = min(CHUNK, size - start)
            if _is_hole(file, start, length):
                yield None
                continue
            file.seek(start)
            data = file.read(length)
            yield None if data.count(0) == len(data) else data


def _is_hole(file: BinaryIO, start: int, length: int) -> bool:
    try:
        return os.lseek(file.fileno(), start, os.SEEK_DATA) >= start + length
    except OSError:
        return True  # ENXIO: no data from here to the end


def pack(
    size: int, pieces: Iterable[bytes | None], target: Path, progress: Callable[[int, int], None] = lambda a, b: None
) -> Written:
    """Write the frames in order, compressing in as many threads as there are CPUs."""
    total = hashlib.sha256()
    chunks: list[Chunk] = []
    offset = done = 0
    zeros: dict[int, bytes] = {}
    workers = os.cpu_count() or 1
    with open(target, "wb") as out, ThreadPoolExecutor(workers) as pool:
        for raw_length, empty, frame in _in_order(_jobs(size, pieces, pool, zeros), workers * 2):
            out.write(frame)
            total.update(frame)
            chunks.append(Chunk(offset, 0 if empty else len(frame), hashlib.sha256(frame).hexdigest()))
            offset += len(frame)
            done += raw_length
            progress(done, size)
    if done != size:
        raise BadImage(f"{target.name}: {done} bytes came, {size} were announced")
    return Written(size, offset, total.hexdigest(), tuple(chunks))


def _jobs(
    size: int, pieces: Iterable[bytes | None], pool: ThreadPoolExecutor, zeros: dict[int, bytes]
) -> Iterator[tuple[int, bool, Future[bytes] | bytes]]:
    left = size
    for piece in pieces:
        length = min(CHUNK, left)
        left -= length
        if piece is None:
            if length not in zeros:
                zeros[length] = zst.compress(bytes(length), LEVEL)
            yield length, True, zeros[length]
        else:
            yield length, False, pool.submit(zst.compress, piece, LEVEL)


def _in_order(jobs: Iterator[tuple[int, bool, Future[bytes] | bytes]], ahead: int) -> Iterator[tuple[int, bool, bytes]]:
    waiting: collections.deque[tuple[int, bool, Future[bytes] | bytes]] = collections.deque()
    for job in jobs:
        waiting.append(job)
        if len(waiting) > ahead:
            yield _ready(waiting.popleft())
    while waiting:
        yield _ready(waiting.popleft())


def _ready(job: tuple[int, bool, Future[bytes] | bytes]) -> tuple[int, bool, bytes]:
    length, empty, frame = job
    return length, empty, frame if isinstance(frame, bytes) else frame.result()


def unpack(packed: Path, chunks: Iterable[Chunk], size: int, target: Path) -> None:
    """The raw disk again, sparse; every frame is checked first. A file that is not whole does not stay."""
    try:
        _unpack(packed, chunks, size, target)
    except BaseException:
        if target.is_file():
            target.unlink()
        raise


def _unpack(packed: Path, chunks: Iterable[Chunk], size: int, target: Path) -> None:
    with open(packed, "rb") as source_file, open(target, "wb") as out:
        out.truncate(size)
        for index, chunk in enumerate(chunks):
            if chunk.zsize == 0:
                continue
            source_file.seek(chunk.offset)
            frame = source_file.read(chunk.zsize)
            if hashlib.sha256(frame).hexdigest() != chunk.sha256:
                raise BadImage(f"{packed.name}: chunk {index} is damaged")
            out.seek(index * CHUNK)
            out.write(zst.decompress(frame, CHUNK))
