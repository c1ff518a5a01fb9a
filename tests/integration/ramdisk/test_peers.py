"""What other tools make of our ISO volumes and partition tables, and we of theirs; real block devices."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from baremetal.agents import blockdev, cleaner, gpt
from baremetal.agents.blockdev import Target
from baremetal.agents.disks import Disk
from baremetal.agents.trouble import DiskReadOnly, DiskRefused
from baremetal.protocol import configdrive

pytestmark = pytest.mark.integration
MIB = 1 << 20
FILES = {
    "openstack/latest/meta_data.json": b'{"hostname": "r1-u07"}',
    "openstack/latest/user_data": b"#!/bin/sh\n",
    "ec2/latest/meta-data.json": b"{}",
    "a rather long name, with blanks.and.dots": os.urandom(5000),
    "a/b/c/d/e": b"deep",
    "empty": b"",
}


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_xorriso_reads_our_volume(tmp_path: Path) -> None:
    (tmp_path / "drive.iso").write_bytes(configdrive.build(FILES))
    out = tmp_path / "out"
    run("xorriso", "-osirrox", "on", "-indev", tmp_path / "drive.iso", "-extract", "/", out)
    subprocess.run(["chmod", "-R", "u+w", str(out)], check=True)
    assert {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} == FILES
    assert 'TYPE="iso9660"' in run("blkid", "-p", tmp_path / "drive.iso")
    assert 'LABEL="config-2"' in run("blkid", "-p", tmp_path / "drive.iso")


@pytest.mark.parametrize("flags", [["-R"], ["-J"], ["-R", "-J"]])
def test_we_read_volumes_of_mkisofs(tmp_path: Path, flags: list[str]) -> None:
    tree = tmp_path / "tree"
    for name, data in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    run("xorriso", "-as", "mkisofs", "-quiet", "-V", "config-2", *flags, "-o", tmp_path / "theirs.iso", tree)
    image = (tmp_path / "theirs.iso").read_bytes()
    assert configdrive.label(image) == "config-2"
    assert configdrive.read(image) == FILES


def test_sgdisk_agrees_with_our_table(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as f:
        f.truncate(64 * MIB)
    run("sgdisk", "-n1:2048:4095", "-t1:ef02", "-n2:0:0", "-t2:8304", "-c2:root", disk)
    os.truncate(disk, 256 * MIB)
    with disk.open("r+b") as f:
        table = gpt.append(gpt.fit(gpt.read(f), 256 * MIB), 70_000, gpt.LINUX_DATA, "config-2")
        gpt.write(f, table, 256 * MIB)
        gpt.write_protective_mbr(f, 256 * MIB)
    assert "No problems found" in run("sgdisk", "-v", disk)
    listing = run("sgdisk", "-p", disk)
    assert "config-2" in listing
    assert f"Disk identifier (GUID): {str(table.disk_id).upper()}" in listing


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A block device of 64 MiB."""
    backing = tmp_path / "backing"
    backing.write_bytes(b"\xa5" * 64 * MIB)
    device = Path(run("losetup", "--find", "--show", backing).strip())
    yield device
    subprocess.run(["losetup", "-d", str(device)], check=False)


def test_a_block_device_is_written_past_the_cache(loop: Path) -> None:
    with Target(str(loop)) as target:
        assert target.is_block
        assert (target.size, target.sector) == (64 * MIB, 512)
        target.write_bytes(1000, b"unaligned")
        assert target.read(998, 13) == b"\xa5\xa5unaligned\xa5\xa5"
        target.zero(8 * MIB, 4 * MIB)
        assert target.read(8 * MIB - 1, 2) == b"\xa5\0"
        assert target.read(12 * MIB - 1, 2) == b"\0\xa5"
        target.sync()
        target.drop_cache()


def test_a_disk_in_use_is_refused(loop: Path) -> None:
    with Target(str(loop)), pytest.raises(DiskRefused, match="in use"):
        Target(str(loop))


def test_a_write_protected_disk_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(bytes(MIB))
    device = run("losetup", "--read-only", "--find", "--show", tmp_path / "b").strip()
    try:
        with pytest.raises(DiskReadOnly):
            Target(device)
    finally:
        run("losetup", "-d", device)


def test_a_loop_device_is_cleaned_and_blkid_finds_nothing(loop: Path) -> None:
    with loop.open("r+b", buffering=0) as f:
        table = gpt.append(gpt.empty(64 * MIB), 32 * MIB, uuid.uuid4(), "data")
        gpt.write(f, table, 64 * MIB)  # type: ignore[arg-type]
    start = table.partitions[0].first * 512
    run("mke2fs", "-q", "-t", "ext4", "-E", f"offset={start}", loop, "16m")
    disk = Disk(loop.name, str(loop), 64 * MIB, serial="L")
    cleaner.clean({"disks": [{"serial": "L"}]}, [disk], lambda *step: None)
    assert subprocess.run(["blkid", "-p", str(loop)], check=False, capture_output=True).stdout == b""
    with Target(str(loop)) as target:
        assert target.read(start, 64 * 1024) == bytes(64 * 1024)
    assert blockdev.partitions("/sys", loop.name) == []
