"""Coverage-guided fuzzing of the qcow2 reader: any bytes give a disk or a clean error, in bounded time and memory.

How the fuzzer works: conftest.py, one folder up.

The first files of the corpus were made by qemu-img; `seed` in this file says how.
"""

from __future__ import annotations

import io
import random
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from baremetal.images import qcow2, zst

CORPUS = Path(__file__).parents[2] / "data" / "fuzz" / "qcow2"
WATCHED = (qcow2.__file__, zst.__file__)
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


def test_the_reader_survives_any_bytes(climb: Any) -> None:
    assert {file.name for file in CORPUS.glob("*")} >= set(SEEDS)
    climb(read, CORPUS, WATCHED, mutate)


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_what_qemu_img_made_is_read_whole(name: str) -> None:
    disk = b"".join(
        part if part is not None else b""
        for part in qcow2.Reader(io.BytesIO((CORPUS / name).read_bytes()), name).clusters()
    )
    assert disk.startswith(b"\x11" * 4096)
