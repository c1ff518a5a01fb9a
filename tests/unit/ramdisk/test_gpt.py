"""Partition tables on a regular file: grown to the disk, one partition more, both copies whole."""

from __future__ import annotations

import io
import struct
import uuid

import pytest

from baremetal.agents import gpt, mbr

MIB = 1 << 20
ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")


def image(size: int = 8 * MIB, sector: int = 512) -> io.BytesIO:
    """A disk with one root partition that takes it all."""
    disk = io.BytesIO(bytes(size))
    table = gpt.empty(size, sector)
    table = gpt.append(table, size - 3 * MIB, ROOT, "root")
    gpt.write(disk, table, size)
    gpt.write_protective_mbr(disk, size, sector)
    return disk


def grown(disk: io.BytesIO, size: int) -> io.BytesIO:
    disk.seek(0)
    return io.BytesIO(disk.read().ljust(size, b"\0"))


@pytest.mark.parametrize("sector", [512, 4096])
def test_backup_moves_to_the_end_of_the_larger_disk(sector: int) -> None:
    size = 64 * MIB
    disk = grown(image(sector=sector), size)
    with pytest.raises(gpt.BadTable):
        gpt.read_backup(disk, size, sector)
    before = gpt.read(disk, sector)
    after = gpt.append(gpt.fit(before, size), 70_000, gpt.LINUX_DATA, "config-2")
    gpt.write(disk, after, size)
    assert gpt.read(disk, sector).partitions == gpt.read_backup(disk, size, sector).partitions == after.partitions
    assert after.partitions[0] == before.partitions[0]
    drive = after.partitions[1]
    assert (drive.index, drive.name, drive.type) == (2, "config-2", gpt.LINUX_DATA)
    assert drive.first * sector % MIB == 0
    assert drive.sectors * sector == MIB
    assert after.last_usable - drive.last < MIB // sector


def test_a_disk_smaller_than_the_partitions_is_refused() -> None:
    with pytest.raises(gpt.BadTable, match="the disk has room up to"):
        gpt.fit(gpt.read(image()), 4 * MIB)


def test_no_room_for_one_more_is_refused() -> None:
    table = gpt.fit(gpt.read(image()), 8 * MIB)
    with pytest.raises(gpt.BadTable, match="no room"):
        gpt.append(table, 4 * MIB, gpt.LINUX_DATA, "config-2")


def test_boot_code_survives_and_old_tools_are_warned() -> None:
    disk = image()
    disk.seek(0)
    disk.write(b"BOOTCODE")
    gpt.write_protective_mbr(disk, 8 * MIB)
    raw = disk.getvalue()
    assert raw[:8] == b"BOOTCODE"
    assert gpt.is_protective(raw[:512])
    assert struct.unpack_from("<II", raw, 454) == (1, 8 * MIB // 512 - 1)


@pytest.mark.parametrize("at", [512, 512 + 16, 512 + 40, 1024, 1024 + 40])
def test_a_damaged_byte_is_noticed(at: int) -> None:
    raw = bytearray(image().getvalue())
    raw[at] ^= 0xFF
    with pytest.raises(gpt.BadTable):
        gpt.read(io.BytesIO(bytes(raw)))


def test_dos_table_takes_a_partition_at_the_end() -> None:
    head = bytearray(512)
    head[446:462] = struct.pack("<B3sB3sII", 0x80, b"\0\0\0", 0x83, b"\0\0\0", 2048, 2048)
    head[510:512] = b"\x55\xaa"
    number, first = mbr.append(head, 64 * MIB, 512, 100_000)
    assert (number, first) == (2, 63 * MIB)
    assert mbr.read(bytes(head))[1] == mbr.Entry(0, 0x83, 63 * 2048, 2048)
    with pytest.raises(gpt.BadTable, match="no room"):
        mbr.append(head, 64 * MIB, 512, 100_000)


@pytest.mark.parametrize("head", [b"", bytes(512), bytes(510) + b"\x55\xaa", b"\xff" * 510 + b"\x55\xaa"])
def test_no_dos_table(head: bytes) -> None:
    with pytest.raises(gpt.BadTable):
        mbr.read(head)
