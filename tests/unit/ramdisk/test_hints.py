"""Root device hints: which disk gets the image."""

from __future__ import annotations

from typing import Any

import pytest

from baremetal.agents import hints
from baremetal.agents.disks import Disk
from baremetal.agents.trouble import DiskAmbiguous, NoDisk, OrderRefused

GIB = 1 << 30
SSD = Disk(
    "nvme0n1", "/dev/nvme0n1", 480 * GIB, model="SAMSUNG MZ1LB480", serial="S3XYZ", wwn="eui.0025385", transport="nvme"
)
HDD = Disk(
    "sda", "/dev/sda", 2000 * GIB, model="ST2000NM0008", vendor="ATA", serial="ZC123", wwn="0x5000c500a1b2c3d4",
    wwn_with_extension="0x5000c500a1b2c3d4e5", rotational=True, hctl="0:0:1:0", by_path="pci-0000:00:1f.2-ata-1",
)  # fmt: skip
TWIN = Disk("sdb", "/dev/sdb", 2000 * GIB, model="ST2000NM0008", vendor="ATA", serial="ZC999", rotational=True)
STICK = Disk("sdc", "/dev/sdc", 16 * GIB, serial="USB1", removable=True, refusal="removable")
TINY = Disk("vda", "/dev/vda", 1 * GIB)
ALL = [HDD, TWIN, SSD, STICK, TINY]

CASES: list[tuple[dict[str, Any], str]] = [
    ({}, "nvme0n1"),  # smallest of at least 4 GiB; neither the stick nor the tiny one
    ({"serial": "zc999"}, "sdb"),
    ({"wwn": "0x5000C500A1B2C3D4"}, "sda"),
    ({"wwn_with_extension": "0x5000c500a1b2c3d4e5"}, "sda"),
    ({"rotational": True}, "sda"),
    ({"rotational": "false", "size": ">= 100"}, "nvme0n1"),
    ({"size": 2000}, "sda"),
    ({"size": "= 1000"}, "sda"),  # Nova's specs: "=" is "at least"
    ({"size": "< 500", "model": "<in> samsung"}, "nvme0n1"),
    ({"size": "<or> 480 <or> 500"}, "nvme0n1"),
    ({"model": "<all-in> st2000 nm0008"}, "sda"),
    ({"model": "s!= ST2000NM0008", "size": ">4"}, "nvme0n1"),
    ({"vendor": "<or> dell <or> ata", "serial": "s== ZC999"}, "sdb"),
    ({"name": "/dev/sdb"}, "sdb"),
    ({"name": "sdb"}, "sdb"),
    ({"hctl": "0:0:1:0"}, "sda"),
    ({"by_path": "pci-0000:00:1f.2-ata-1"}, "sda"),
    ({"by_path": "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"}, "sda"),
    ({"name": "s== /dev/vda"}, "vda"),  # named by hand: the floor of 4 GiB is for guesses only
]


@pytest.mark.parametrize(("wanted", "found"), CASES)
def test_chooses(wanted: dict[str, Any], found: str) -> None:
    assert hints.choose(ALL, wanted).name == found


@pytest.mark.parametrize(
    "wanted", [{"serial": "nobody"}, {"serial": "USB1"}, {"size": "> 9000"}, {"rotational": 1, "model": "x"}]
)
def test_none_fits(wanted: dict[str, Any]) -> None:
    with pytest.raises(NoDisk) as caught:
        hints.choose(ALL, wanted)
    assert "/dev/sda" in caught.value.detail
    assert caught.value.fix


def test_no_disk_at_all() -> None:
    with pytest.raises(NoDisk, match="no disk to deploy to"):
        hints.choose([], {})
    with pytest.raises(NoDisk) as caught:
        hints.choose([STICK], {})
    assert "removable" in caught.value.detail


def test_two_disks_of_one_serial_are_not_guessed() -> None:
    paths = [Disk("sda", "/dev/sda", 9 * GIB, serial="LUN"), Disk("sdb", "/dev/sdb", 9 * GIB, serial="LUN")]
    with pytest.raises(DiskAmbiguous, match="2 disks match"):
        hints.choose(paths, {"serial": "LUN"})


@pytest.mark.parametrize("wanted", [{"seriel": "x"}, {"size": "large"}, {"rotational": "maybe"}, {"model": ["a"]}])
def test_nonsense_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(OrderRefused):
        hints.choose(ALL, wanted)
