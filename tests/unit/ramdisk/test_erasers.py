"""Drives that erase themselves: what IDENTIFY says, command bytes, status, health; and what lies on a disk."""

from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import ata, cleaner, foreign, gpt, nvme
from baremetal.agents.disks import Disk
from baremetal.agents.trouble import DiskIo, ForeignData, NoSuchErase

MIB = 1 << 20


def identify(**words: int) -> bytes:
    page = [0] * 256
    for name, value in words.items():
        page[int(name[1:])] = value
    return struct.pack("<256H", *page)


ABILITIES = [  # words of IDENTIFY, sanitize, security, enhanced, frozen, minutes
    ({}, [], False, False, False, 0),
    ({"w59": 1 << 12 | 1 << 13}, [ata.CRYPTO_SCRAMBLE], False, False, False, 0),
    ({"w59": 1 << 12 | 1 << 15}, [ata.BLOCK_ERASE], False, False, False, 0),
    ({"w59": 1 << 13}, [], False, False, False, 0),
    ({"w128": 0x0021, "w90": 30}, [], True, True, False, 60),
    ({"w128": 0x0001, "w89": 0x8064}, [], True, False, False, 200),
    ({"w128": 0x0009}, [], True, False, True, 0),
]


@pytest.mark.parametrize(("words", "sanitize", "security", "enhanced", "frozen", "minutes"), ABILITIES)
def test_what_a_drive_can(
    words: dict[str, int], sanitize: list[int], security: bool, enhanced: bool, frozen: bool, minutes: int
) -> None:
    can = ata.abilities(identify(**words))
    assert (can.sanitize, can.security, can.enhanced, can.frozen, can.minutes) == (
        sanitize, security, enhanced, frozen, minutes,
    )  # fmt: skip


def test_command_bytes_of_identify_and_sanitize() -> None:
    """SAT-4 table 138; hdparm -I and --sanitize-block-erase send the same bytes."""
    assert ata.pass_through(ata.IDENTIFY, ata.DATA_IN, count=1).hex() == "85080e00000001000000000000" + "00ec00"
    erase = ata.pass_through(ata.SANITIZE, ata.NON_DATA, feature=ata.BLOCK_ERASE, lba=0x426B4572, ext=True)
    assert erase.hex() == "850720001200004272004500" + "6b00b400"


def test_the_task_file_comes_back_in_the_sense_data() -> None:
    sense = bytes([0x72, 1, 0, 0x1D, 0, 0, 0, 14, 0x09, 0x0C, 0, 0, 0x80, 0, 0, 1, 0, 2, 0, 3, 0, 0x50]) + bytes(42)
    assert ata.task_file(sense) == (0x50, 0, 0x8000, 0x030201)
    assert ata.task_file(bytes(64)) == (0, 0, 0, 0)


def test_smart_figures() -> None:
    page = bytearray(512)
    rows = [(5, 100, 7), (9, 90, 12345), (194, 60, 0x2D0014002D), (231, 88, 0)]
    for n, (number, value, raw) in enumerate(rows):
        page[2 + n * 12 : 14 + n * 12] = struct.pack("<BHBB", number, 0, value, 0) + raw.to_bytes(7, "little")
    found = ata.parse_smart(bytes(page))
    assert found["reallocated_sectors"] == 7
    assert found["power_on_hours"] == 12345
    assert found["temperature_c"] == 45
    assert found["wear_percent"] == 12


def test_what_is_no_drive_has_no_health(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    assert ata.health(str(tmp_path / "disk")) is None


@pytest.mark.parametrize(("capabilities", "action"), [(0, None), (1, 4), (2, 2), (3, 4), (4, None)])
def test_nvme_sanitize_action(capabilities: int, action: int | None) -> None:
    page = bytearray(4096)
    struct.pack_into("<I", page, 328, capabilities)
    assert nvme.sanitize_action(bytes(page)) == action


def test_nvme_sanitize_status() -> None:
    assert nvme.parse_sanitize(struct.pack("<HH", 0x8000, 0x0102) + bytes(508)) == (0x8000, 2)


# -- what lies on a disk ----------------------------------------------------------


def mkfs(path: Path, *command: str) -> None:
    subprocess.run([*command, str(path)], check=True, capture_output=True)


FILESYSTEMS = [
    (["mkfs.ext4", "-q"], "ext"),
    (["mkfs.vfat"], "vfat"),
    (["mkswap", "-q"], "swap"),
]


@pytest.mark.parametrize(("command", "name"), FILESYSTEMS, ids=[n for _, n in FILESYSTEMS])
def test_file_systems_made_by_their_own_tools(tmp_path: Path, command: list[str], name: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(48 * MIB))
    mkfs(disk, *command)
    assert name in " ".join(foreign.content(str(disk)))


def test_partitions_are_looked_into(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    whole = io.BytesIO(bytes(64 * MIB))
    table = gpt.append(gpt.empty(64 * MIB), 40 * MIB, gpt.LINUX_DATA, "data")
    gpt.write(whole, table, 64 * MIB)
    part = tmp_path / "part"
    part.write_bytes(bytes(40 * MIB))
    mkfs(part, "mkfs.ext4", "-q")
    whole.seek(table.partitions[0].first * 512)
    whole.write(part.read_bytes())
    disk.write_bytes(whole.getvalue())
    assert foreign.content(str(disk)) == ["gpt", "partition 1 'data': ext"]


def test_a_blank_disk_is_blank_and_noise_is_data(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8 * MIB))
    assert foreign.content(str(disk)) == []
    disk.write_bytes(bytes(MIB) + b"\1" + bytes(7 * MIB))
    assert foreign.content(str(disk)) == ["data without a known signature"]


def test_a_disk_nobody_gave_up_is_left_alone_with_all_others(tmp_path: Path) -> None:
    disks = []
    for n in range(2):
        path = tmp_path / f"disk{n}"
        path.write_bytes((b"\1" if n else b"\0") + bytes(8 * MIB - 1))
        disks.append(Disk(name=path.name, path=str(path), size=8 * MIB, serial=f"S{n}"))
    before = [Path(d.path).read_bytes() for d in disks]
    listed = [{"serial": "S0", "foreign": False}, {"serial": "S1", "foreign": False}]
    with pytest.raises(ForeignData) as caught:
        cleaner.clean({"disks": listed}, disks, lambda *step: None)
    assert [d["serial"] for d in caught.value.evidence["disks"]] == ["S1"]
    assert [Path(d.path).read_bytes() for d in disks] == before
    done = cleaner.clean({"disks": [{"serial": "S0", "foreign": False}, {"serial": "S1"}]}, disks, lambda *step: None)
    assert len(done["disks"]) == 2


def test_best_says_what_it_fell_back_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\1" * 8 * MIB)
    disk = Disk(name="disk", path=str(path), size=8 * MIB, serial="S1", transport="virtio")
    done: Any = cleaner.clean({"disks": [{"serial": "S1"}], "method": "best"}, [disk], lambda *step: None)
    assert done["disks"][0]["method"].startswith("zero (")
    assert done["disks"][0]["bytes_verified"] == 8 * MIB
    assert path.read_bytes() == bytes(8 * MIB)


def test_a_drive_that_refuses_is_no_success_with_secure(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(8 * MIB))
    with pytest.raises((DiskIo, OSError)):
        ata.secure_erase(str(path), lambda done, total: None)


def _nvme(name: str, serial: str = "S1", transport: str = "nvme") -> Disk:
    return Disk(name, f"/dev/{name}", 1 << 40, model="M", serial=serial, transport=transport)


SPARED = [  # disks here, those chosen, what the drive's own erase of the first one chosen would take besides
    ([_nvme("nvme0n1")], ["nvme0n1"], []),
    ([_nvme("nvme0n1"), _nvme("nvme0n2")], ["nvme0n1"], ["nvme0n2"]),
    ([_nvme("nvme0n1"), _nvme("nvme0n2")], ["nvme0n1", "nvme0n2"], []),
    ([_nvme("nvme0n1"), _nvme("nvme1n1", "S2")], ["nvme0n1"], []),
    ([_nvme("nvme0n1"), _nvme("nvme1n2")], ["nvme0n1"], ["nvme1n2"]),  # one drive, two controllers
    ([_nvme("nvme0n1", ""), _nvme("nvme1n1", "")], ["nvme0n1"], []),
    ([_nvme("sda", transport="sata"), _nvme("sdb", transport="sata")], ["sda"], []),
]


@pytest.mark.parametrize(("here", "names", "others"), SPARED)
def test_a_drive_is_not_told_to_erase_namespaces_that_nobody_listed(
    here: list[Disk], names: list[str], others: list[str]
) -> None:
    chosen = [d for d in here if d.name in names]
    spared = cleaner.spared(chosen[0], chosen, here)
    assert [d.name for d in spared] == others
    if others:  # before any command goes to the drive
        with pytest.raises(NoSuchErase, match=others[0]):
            cleaner._secure(chosen[0], lambda *_: None, spared)
