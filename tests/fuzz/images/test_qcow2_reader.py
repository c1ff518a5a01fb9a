"""Coverage-guided fuzzing of the qcow2 reader: any bytes give a disk or a clean error, in bounded time and memory.

The gate replays the corpus (tests/data/fuzz/qcow2/, one file an input) and mutates it for a moment.
`BAREMETAL_FUZZ_S=600 pytest tests/fuzz/images` goes on for ten minutes and adds inputs that reach lines nothing in
the corpus reached. The first files of the corpus were made by qemu-img; `seed` in this file says how.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from baremetal.errors import BaremetalError
from baremetal.images import qcow2, zst

CORPUS = Path(__file__).parents[2] / "data" / "fuzz" / "qcow2"
WATCHED = {qcow2.__file__, zst.__file__}
FOR_S = float(os.environ.get("BAREMETAL_FUZZ_S", "1"))
# Where a change means something: the header's fields, then tables at cluster boundaries.
FIELDS = [4, 8, 16, 20, 24, 32, 36, 40, 48, 56, 60, 64, 72, 80, 88, 96, 100, 104]
VALUES = [
    0,
    1,
    2,
    3,
    8,
    9,
    12,
    16,
    21,
    31,
    63,
    64,
    255,
    1 << 16,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 62,
    (1 << 64) - 1,
]

SEEDS = {  # name: qemu-img create options, then a write by qemu-io
    "v2": ["compat=0.10,cluster_size=512"],
    "v3": ["compat=1.1,cluster_size=512"],
    "zlib": ["compat=1.1,cluster_size=512", "compressed"],
    "zstd": ["compat=1.1,cluster_size=4096,compression_type=zstd", "compressed"],
    "wide": ["compat=1.1,cluster_size=4096,refcount_bits=1"],
}


def seed(folder: Path) -> None:
    """Make the first inputs again: 16 KiB disks with a pattern, a hole and zeros."""
    raw = folder / "raw"
    raw.write_bytes(b"\x11" * 5000 + bytes(6000) + random.Random(1).randbytes(3000) + bytes(2384))
    for name, (options, *how) in SEEDS.items():
        command = ["qemu-img", "convert", *(["-c"] if how else []), "-f", "raw", "-O", "qcow2", "-o", options]
        subprocess.run([*command, str(raw), str(folder / name)], check=True)
    raw.unlink()


def read(data: bytes) -> None:
    """What `image add` does with a stranger's file."""
    reader = qcow2.Reader(io.BytesIO(data), "fuzz")
    if reader.header.virtual_size <= 1 << 20:
        total = 0
        for cluster in reader.clusters():
            total += len(cluster or b"")
        assert total <= reader.header.virtual_size


def lines_of(data: bytes) -> set[tuple[str, int]]:
    """Which lines this input reaches; anything but a clean error is raised on."""
    hit: set[tuple[str, int]] = set()

    def trace(frame: FrameType, _event: str, _arg: Any) -> Any:
        if frame.f_code.co_filename not in WATCHED:
            return None
        hit.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read(data)
    except BaremetalError:
        pass
    finally:
        sys.settrace(before)
    return hit


def mutate(rnd: random.Random, data: bytes) -> bytes:
    raw = bytearray(data.ljust(1024, b"\0"))
    for _ in range(rnd.choice((1, 1, 2, 3, 8))):
        match rnd.randrange(5):
            case 0:
                at = rnd.choice(FIELDS)
                raw[at : at + 4] = struct.pack(">I", rnd.choice(VALUES) & 0xFFFFFFFF)
            case 1:
                at = rnd.choice(FIELDS)
                raw[at : at + 8] = struct.pack(">Q", rnd.choice(VALUES))
            case 2:  # an entry of a table
                at = rnd.randrange(len(raw) // 8) * 8
                raw[at : at + 8] = struct.pack(">Q", rnd.choice(VALUES) | rnd.randrange(len(raw)))
            case 3:
                del raw[max(120, rnd.randrange(len(raw))) :]
            case _:
                raw[rnd.randrange(len(raw))] = rnd.randrange(256)
    return bytes(raw[: 1 << 15])


def test_the_reader_survives_any_bytes() -> None:
    corpus = [file.read_bytes() for file in sorted(CORPUS.glob("*"))]
    assert len(corpus) >= len(SEEDS)
    known: set[tuple[str, int]] = set()
    for data in corpus:
        known |= lines_of(data)
    rnd, end = random.Random(os.environ.get("BAREMETAL_FUZZ_SEED", "qcow2")), time.monotonic() + FOR_S
    while time.monotonic() < end:
        data = mutate(rnd, rnd.choice(corpus))
        began = time.monotonic()
        new = lines_of(data) - known
        assert time.monotonic() - began < 60, "one input took a minute"
        if new:
            known |= new
            corpus.append(data)
            if FOR_S > 5:
                digest = hashlib.sha256(data).hexdigest()[:8]
                where = min(new)
                (CORPUS / f"{Path(where[0]).stem}-{where[1]}-{digest}").write_bytes(data)


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_what_qemu_img_made_is_read_whole(name: str) -> None:
    disk = b"".join(
        part if part is not None else b""
        for part in qcow2.Reader(io.BytesIO((CORPUS / name).read_bytes()), name).clusters()
    )
    assert disk.startswith(b"\x11" * 4096)
