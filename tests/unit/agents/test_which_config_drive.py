"""Several disks may carry a config drive: that on the disk we run from counts, a stick only when there is no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baremetal.agents.resident import drive

DISKS = {  # disk: (where it hangs, partitions, removable)
    "sda": ("pci0000:00/ata1", ["sda1", "sda2"], "0"),
    "sdb": ("pci0000:00/ata2", ["sdb1", "sdb9"], "0"),
    "sdc": ("pci0000:00/usb1/1-1", ["sdc1", "sdc15"], "0"),
    "sr0": ("pci0000:00/ata3", [], "1"),
    "nvme0n1": ("pci0000:00/nvme", ["nvme0n1p1", "nvme0n1p3"], "0"),
}


@pytest.fixture
def sys_tree(tmp_path: Path) -> Path:
    sys = tmp_path / "sys"
    (sys / "class/block").mkdir(parents=True)
    (sys / "dev/block").mkdir(parents=True)
    for disk, (place, parts, removable) in DISKS.items():
        home = sys / "devices" / place / disk
        home.mkdir(parents=True)
        (home / "removable").write_text(f"{removable}\n")
        (sys / "class/block" / disk).symlink_to(home)
        for part in parts:
            (home / part).mkdir()
            (home / part / "partition").write_text(part[-1])
            (sys / "class/block" / part).symlink_to(home / part)
    mapped = sys / "devices/virtual/block/dm-0"
    (mapped / "slaves").mkdir(parents=True)
    (mapped / "slaves/sdb9").symlink_to(sys / "class/block/sdb9")
    return sys


def names(sys: Path, root_on: str) -> list[str]:
    number = os.stat(sys).st_dev
    link = sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}"
    if root_on:
        link.symlink_to(next(iter(sys.glob(f"devices/**/{root_on}"))))
    return [Path(device).name for device in drive.devices(str(sys), "/dev", str(sys))]


FIRST = [  # what the root file system is on, what is looked at first
    ("sda1", ["sda2", "sda1", "sda"]),
    ("nvme0n1p1", ["nvme0n1p3", "nvme0n1p1", "nvme0n1"]),
    ("dm-0", ["sdb9", "sdb1", "sdb"]),
]


@pytest.mark.parametrize(("root_on", "first"), FIRST)
def test_the_disk_we_run_from_counts(sys_tree: Path, root_on: str, first: list[str]) -> None:
    found = names(sys_tree, root_on)
    assert found[:3] == first
    assert set(found[-4:]) == {"sdc15", "sdc1", "sdc", "sr0"}, "what can be plugged in comes last"
    assert len(found) == len(set(found)) == 13


def test_without_a_known_root_fixed_disks_come_first(sys_tree: Path) -> None:
    found = names(sys_tree, "")
    assert found[0] == "sdb9"
    assert set(found[-4:]) == {"sdc15", "sdc1", "sdc", "sr0"}
