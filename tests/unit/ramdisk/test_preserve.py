"""Partitions that survive a rebuild, on disks that are files: kept, added, and what is refused."""

from __future__ import annotations

import io
import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import gpt, installer, keep
from baremetal.agents.disks import Disk
from baremetal.agents.http import Client
from baremetal.agents.trouble import DiskRefused, NodeTrouble, OrderRefused
from baremetal.protocol import configdrive

MIB = 1 << 20
ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
DRIVE = configdrive.pack({"openstack/latest/meta_data.json": b"{}"})


def golden(fill: bytes = b"A", size: int = 8 * MIB) -> bytes:
    disk = io.BytesIO(bytes(size))
    table = gpt.empty(size)
    part = gpt.Partition(1, ROOT, uuid.uuid4(), 4096, size // 512 - 2048, "root")
    gpt.write(disk, replace(table, partitions=(part,)), size)
    gpt.write_protective_mbr(disk, size)
    disk.seek(3 * MIB)
    disk.write(fill * MIB)
    return disk.getvalue()


class Machine:
    """A disk of 64 MiB and the agent's installer."""

    def __init__(self, tmp_path: Path, server: Any, key: bytes) -> None:
        self.path, self.server, self.key = tmp_path / "disk", server, key
        self.path.write_bytes(os.urandom(MIB) + bytes(63 * MIB))
        self.disk = Disk(name="disk", path=str(self.path), size=64 * MIB, serial="S1")

    def write(self, image: Any, **args: Any) -> dict[str, Any]:
        def connect(url: str) -> Client:
            return Client(url, ca_file=str(self.server.ca_file) if url.startswith("https") else None)

        site = installer.Site(connect, self.key, lambda: [self.disk], lambda *step: None, give_up_s=1.0)
        order = {**self.server.put_image(image), "root_device": {"serial": "S1"}, "config_drive": DRIVE, **args}
        return installer.write_image(order, site)

    def table(self) -> gpt.Table:
        with self.path.open("rb") as f:
            table = gpt.read(f)
            assert table.partitions == gpt.read_backup(f, 64 * MIB).partitions
        return table

    def data(self) -> gpt.Partition:
        return next(p for p in self.table().partitions if p.name == "data")

    def fill_data(self) -> bytes:
        """A tenant writes all over his partition."""
        part, content = self.data(), os.urandom(2 * MIB)
        with self.path.open("r+b") as f:
            f.seek(part.first * 512)
            f.write(content)
            f.seek((part.last + 1) * 512 - 2 * MIB)
            f.write(content)
        return content

    def holds_data(self, content: bytes) -> bool:
        part, raw = self.data(), self.path.read_bytes()
        end = (part.last + 1) * 512
        return raw[part.first * 512 :][: 2 * MIB] == content == raw[end - 2 * MIB : end]


@pytest.fixture
def machine(tmp_path: Path, server: Any, public_key: bytes) -> Machine:
    return Machine(tmp_path, server, public_key)


def test_a_data_partition_is_made_once_and_survives_rebuilds(machine: Machine, make_image: Any) -> None:
    report = machine.write(make_image(golden()), data_partition={"name": "data", "size_gib": 16 / 1024})
    assert report["data_partition"] == {"name": "data", "made": True}
    assert [p.name for p in machine.table().partitions] == ["root", "config-2", "data"]
    first, content = machine.data(), machine.fill_data()
    report = machine.write(make_image(golden(b"B")), preserve=["data"])
    assert report["preserved"] == ["data"]
    assert machine.data().id == first.id
    assert machine.holds_data(content)
    raw = machine.path.read_bytes()
    assert raw[3 * MIB : 4 * MIB] == b"B" * MIB
    assert len([p for p in machine.table().partitions if p.name == "config-2"]) == 1
    report = machine.write(
        make_image(golden(b"C")), preserve=["data"], data_partition={"name": "data", "size_gib": 16 / 1024}
    )
    assert report["data_partition"] == {"name": "data", "made": False}
    assert machine.holds_data(content)


def test_a_failed_rebuild_boots_nothing_and_loses_nothing(machine: Machine, make_image: Any) -> None:
    machine.write(make_image(golden()), data_partition={"name": "data", "size_gib": 16 / 1024})
    content = machine.fill_data()
    image = make_image(golden(b"B"))
    image.zst = image.zst[:-40] + bytes(40)  # the last frames are damaged
    with pytest.raises(NodeTrouble):
        machine.write(image, preserve=["data"])
    assert [p.name for p in machine.table().partitions] == ["data"], "nothing to boot, and the data still found"
    assert machine.path.read_bytes()[:440] == bytes(440)
    assert machine.holds_data(content)
    machine.write(make_image(golden(b"C")), preserve=["data"])
    assert machine.holds_data(content)


def test_what_cannot_be_kept_is_refused_before_anything_is_written(machine: Machine, make_image: Any) -> None:
    machine.write(make_image(golden()), data_partition={"name": "data", "size_gib": 16 / 1024})
    before = machine.path.read_bytes()
    with pytest.raises(DiskRefused, match="no partition 'other'"):
        machine.write(make_image(golden()), preserve=["other"])
    with pytest.raises(DiskRefused, match="cannot be preserved"):
        machine.write(make_image(golden(size=56 * MIB)), preserve=["data"])
    with pytest.raises(DiskRefused, match="begins at byte"):
        machine.write(make_image(golden()), preserve=["root"])
    assert machine.path.read_bytes() == before


@pytest.mark.parametrize(
    "args",
    [
        {"preserve": "data"},
        {"preserve": [1]},
        {"data_partition": {"name": "data"}},
        {"data_partition": {"name": "", "size_gib": 1}},
        {"data_partition": {"name": "x" * 37, "size_gib": 1}},
        {"data_partition": {"name": "data", "size_gib": -1}},
        {"data_partition": "data"},
    ],
)
def test_nonsense_is_refused(args: dict[str, Any]) -> None:
    with pytest.raises(OrderRefused):
        keep.Wanted.of(args)


def test_an_image_without_partitions_cannot_keep_any(machine: Machine, make_image: Any) -> None:
    machine.write(make_image(golden()), data_partition={"name": "data", "size_gib": 16 / 1024})
    with pytest.raises(NodeTrouble, match="no GPT"):
        machine.write(make_image(os.urandom(MIB)), preserve=["data"], config_drive=None)
