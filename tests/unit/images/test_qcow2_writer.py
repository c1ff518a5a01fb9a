"""Our qcow2 writer against QEMU's checker and reader, and against our own reader."""

from __future__ import annotations

import itertools
import random
import subprocess
from pathlib import Path

import pytest

from baremetal.images import bases, chunks, qcow2, qcow2write

MIB = 1 << 20
CASES = list(itertools.product([64 << 10, 1 << 20, 2 << 20], ["zstd", "zlib", "none"]))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """9 MiB and a half sector run: text, a hole, noise that does not shrink, zeros that are written out."""
    path = tmp_path / "disk.raw"
    with open(path, "wb") as file:
        file.write(b"once upon a time\n" * 100_000)
        file.seek(5 * MIB)
        file.write(random.Random(7).randbytes(2 * MIB + 4096))
        file.write(bytes(MIB))
        file.truncate(9 * MIB + 512)
    return path


def qemu_img(*words: object) -> str:
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("cluster", "compression"), CASES)
def test_qemu_reads_the_same_disk_and_finds_no_fault(disk: Path, cluster: int, compression: str) -> None:
    target = disk.with_suffix(".qcow2")
    qcow2write.write(disk, target, cluster=cluster, compression=compression)
    assert "No errors were found" in qemu_img("check", target)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", disk, target)
    read = b"".join(part or bytes(chunks.CHUNK) for part in qcow2.disk_chunks(target, chunks.CHUNK))
    assert read[: 9 * MIB] == disk.read_bytes()[: 9 * MIB]


def test_an_empty_disk_is_an_empty_image(tmp_path: Path) -> None:
    raw = tmp_path / "empty.raw"
    with open(raw, "wb") as file:
        file.truncate(64 * MIB)
    qcow2write.write(raw, tmp_path / "q", cluster=2 * MIB, compression="zstd")
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, tmp_path / "q")


def test_kept_frames_change_no_byte_and_a_changed_cluster_is_compressed_again(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    bases.copy_sparse(disk, tmp_path / "base/disk.raw")
    frames = qcow2write.frames_of(tmp_path / "base/disk.raw", MIB, "zstd")
    with open(disk, "r+b") as file:
        file.seek(MIB + 5)
        file.write(b"another word")
    qcow2write.write(disk, tmp_path / "with", cluster=MIB, compression="zstd", frames=frames)
    qcow2write.write(disk, tmp_path / "without", cluster=MIB, compression="zstd")
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", disk, tmp_path / "with")


def test_frames_cut_short_are_made_again(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    bases.copy_sparse(disk, tmp_path / "base/disk.raw")
    first = qcow2write.frames_of(tmp_path / "base/disk.raw", MIB, "zstd")
    whole = first.data.read_bytes()
    first.data.write_bytes(whole[:-1])
    assert qcow2write.frames_of(tmp_path / "base/disk.raw", MIB, "zstd").data.read_bytes() == whole


def test_a_copy_has_the_same_holes(disk: Path, tmp_path: Path) -> None:
    bases.copy_sparse(disk, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()
    assert (tmp_path / "copy").stat().st_blocks <= disk.stat().st_blocks + 64
