"""Cleaning: only what is listed, both ends of everything, and no success that was not seen."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import cleaner, gpt
from baremetal.agents.blockdev import Target
from baremetal.agents.disks import Disk
from baremetal.agents.trouble import DiskReadOnly, DiskRefused, NodeTrouble, OrderRefused, WipeUnproved

MIB = 1 << 20
SIZE = 16 * MIB
DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def nothing(stage: str, done: int, total: int, unit: str) -> None:
    pass


def make(tmp_path: Path, name: str, size: int = SIZE, **more: Any) -> Disk:
    path = tmp_path / name
    path.write_bytes(b"\xa5" * size)
    return Disk(name, str(path), size, **{"serial": f"S-{name}", **more})


def content(disk: Disk) -> bytes:
    return Path(disk.path).read_bytes()


def order(*disks: Disk) -> dict[str, Any]:
    return {"disks": [{"serial": d.serial, "size": d.size} for d in disks], "method": "metadata"}


def test_both_ends_are_zero_and_reported(tmp_path: Path) -> None:
    disk = make(tmp_path, "sda")
    result = cleaner.clean(order(disk), [disk], nothing, str(tmp_path))
    raw = content(disk)
    assert raw[: 4 * MIB] == bytes(4 * MIB)
    assert raw[-4 * MIB :] == bytes(4 * MIB)
    assert raw[4 * MIB : -4 * MIB] == b"\xa5" * (SIZE - 8 * MIB)  # metadata, not every byte
    (one,) = result["disks"]
    assert (one["name"], one["serial"], one["method"]) == (disk.path, "S-sda", "metadata")
    assert one["bytes_verified"] == 8 * MIB
    assert one["seconds"] >= 0


def test_partitions_of_the_table_lose_both_ends(tmp_path: Path) -> None:
    disk = make(tmp_path, "sda")
    table = gpt.append(gpt.empty(disk.size), 10 * MIB, DATA, "home")
    with open(disk.path, "r+b") as f:
        gpt.write(f, table, disk.size)
    first = table.partitions[0].first * 512
    cleaner.clean(order(disk), [disk], nothing, str(tmp_path))
    raw = content(disk)
    assert raw[first : first + MIB] == bytes(MIB)
    assert raw[first + MIB : first + MIB + 10] == b"\xa5" * 10
    with pytest.raises(gpt.BadTable):
        gpt.read_backup(io.BytesIO(raw), disk.size)


def test_a_damaged_primary_table_does_not_hide_partitions(tmp_path: Path) -> None:
    disk = make(tmp_path, "sda")
    table = gpt.append(gpt.empty(disk.size), 10 * MIB, DATA, "home")
    with open(disk.path, "r+b") as f:
        gpt.write(f, table, disk.size)
        f.seek(512)
        f.write(b"damaged")
    with Target(disk.path) as target:
        areas = cleaner.areas_of(target, [])
    first = table.partitions[0].first * 512
    assert any(start <= first < start + length for start, length in areas)


def test_what_is_not_listed_is_not_touched(tmp_path: Path) -> None:
    mine, other = make(tmp_path, "sda"), make(tmp_path, "sdb")
    cleaner.clean(order(mine), [mine, other], nothing, str(tmp_path))
    assert content(other) == b"\xa5" * other.size


REFUSED: list[tuple[dict[str, Any], type[NodeTrouble]]] = [
    ({"serial": "S-nobody"}, DiskRefused),
    ({"serial": "S-sda", "size": 1}, DiskRefused),  # same serial, another size: not the disk that was inspected
    ({"serial": "S-sda", "wwn": "0x5000"}, DiskRefused),
    ({"name": "sda", "size": SIZE}, DiskRefused),  # it has a serial: names are not enough
    ({"serial": "S-usb"}, DiskRefused),
    ({"serial": "S-ro"}, DiskReadOnly),
    ({}, OrderRefused),
    ({"name": "sda"}, OrderRefused),
    ({"size": SIZE}, OrderRefused),
]


@pytest.mark.parametrize(("entry", "kind"), REFUSED)
def test_one_bad_entry_spares_all_disks(tmp_path: Path, entry: dict[str, Any], kind: type[NodeTrouble]) -> None:
    good = make(tmp_path, "sda")
    usb = make(tmp_path, "usb", refusal="on USB")
    read_only = make(tmp_path, "ro", read_only=True)
    with pytest.raises(kind):
        cleaner.clean({"disks": [{"serial": "S-sda"}, entry]}, [good, usb, read_only], nothing, str(tmp_path))
    assert content(good) == b"\xa5" * good.size
    assert content(usb) == b"\xa5" * usb.size


@pytest.mark.parametrize(
    "args", [{}, {"disks": None}, {"disks": "all"}, {"disks": ["sda"]}, {"disks": [], "method": "nuke"}]
)
def test_an_order_that_does_not_list_is_refused(args: dict[str, Any]) -> None:
    with pytest.raises(OrderRefused):
        cleaner.clean(args, [], nothing)


def test_a_disk_without_serial_goes_by_name_and_size(tmp_path: Path) -> None:
    disk = make(tmp_path, "vda", serial="")
    result = cleaner.clean({"disks": [{"name": "vda", "size": disk.size}]}, [disk], nothing, str(tmp_path))
    assert result["disks"][0]["name"] == disk.path


def test_a_disk_listed_twice_is_refused(tmp_path: Path) -> None:
    disk = make(tmp_path, "sda")
    with pytest.raises(OrderRefused, match="twice"):
        cleaner.clean(order(disk, disk), [disk], nothing, str(tmp_path))


def test_success_is_what_was_read_back(tmp_path: Path) -> None:
    disk = make(tmp_path, "sda", size=10 * MIB)
    with Target(disk.path) as target:
        areas = cleaner.areas_of(target, [])
        for start, length in areas:
            target.zero(start, length)
        target.write_bytes(10 * MIB - 7, b"x")  # a drive that kept a byte
        with pytest.raises(WipeUnproved) as caught:
            cleaner.prove(target, areas, nothing)
    assert caught.value.evidence["offset"] == 10 * MIB - 7


def test_one_failing_disk_does_not_spare_the_others(tmp_path: Path) -> None:
    gone, good = make(tmp_path, "sda"), make(tmp_path, "sdb")
    Path(gone.path).unlink()
    with pytest.raises(NodeTrouble) as caught:
        cleaner.clean(order(gone, good), [gone, good], nothing, str(tmp_path))
    assert caught.value.code == "disk-io"
    assert [d["result"] for d in caught.value.evidence["disks"]] == ["disk-io", "clean"]
    assert content(good)[:MIB] == bytes(MIB)


def test_zero_erases_and_reads_every_byte(tmp_path: Path) -> None:
    disk = make(tmp_path, "sda", size=9 * MIB + 512)
    result = cleaner.clean({**order(disk), "method": "zero"}, [disk], nothing, str(tmp_path))
    assert content(disk) == bytes(disk.size)
    assert result["disks"][0]["bytes_verified"] == disk.size


@pytest.mark.parametrize("method", ["discard", "secure"])
def test_a_method_the_drive_lacks_is_no_success(tmp_path: Path, method: str) -> None:
    disk = make(tmp_path, "sda")
    with pytest.raises(NodeTrouble) as caught:
        cleaner.clean({**order(disk), "method": method}, [disk], nothing, str(tmp_path))
    assert caught.value.code == "erase-unsupported"


def test_a_tiny_disk(tmp_path: Path) -> None:
    disk = make(tmp_path, "sda", size=100 * 512)
    cleaner.clean(order(disk), [disk], nothing, str(tmp_path))
    assert content(disk) == bytes(disk.size)
