"""UEFI boot entries in a folder that stands for efivarfs, and the loaders on a FAT volume made by mtools."""

from __future__ import annotations

import struct
import subprocess
import uuid
from pathlib import Path

import pytest

from baremetal.agents import efiboot, fat, gpt
from baremetal.agents.efiboot import GLOBAL, Variables

PART = gpt.Partition(1, efiboot.ESP, uuid.UUID(int=7), 2048, 34815, "esp")


def firmware(folder: Path, entries: dict[int, str], order: list[int]) -> Variables:
    for number, label in entries.items():
        option = struct.pack("<IH", 1, 4) + label.encode("utf-16-le") + b"\0\0" + b"\x7f\xff\x04\x00"
        (folder / f"Boot{number:04X}-{GLOBAL}").write_bytes(b"\7\0\0\0" + option)
    (folder / f"BootOrder-{GLOBAL}").write_bytes(b"\7\0\0\0" + struct.pack(f"<{len(order)}H", *order))
    return Variables(str(folder))


def test_our_entry_comes_first_and_nobody_elses_is_touched(tmp_path: Path) -> None:
    there = firmware(tmp_path, {0: "PXE", 2: "Setup"}, [2, 0])
    done = there.put("baremetal", PART, "\\EFI\\debian\\shimx64.efi")
    assert (done["entry"], done["order"]) == ("Boot0001", ["0001", "0002", "0000"])
    entry = next(e for e in there.entries() if e.label == "baremetal")
    assert entry.active
    kind, sub, length, number, first, sectors, guid, form, signed = struct.unpack_from("<BBHIQQ16sBB", entry.path)
    assert (kind, sub, length, number, first, sectors, form, signed) == (4, 1, 42, 1, 2048, 32768, 2, 2)
    assert uuid.UUID(bytes_le=guid) == PART.id
    assert entry.path[46:-4].decode("utf-16-le").rstrip("\0") == "\\EFI\\debian\\shimx64.efi"
    assert entry.path.endswith(b"\x7f\xff\x04\x00")


def test_deploying_again_makes_no_second_entry(tmp_path: Path) -> None:
    there = firmware(tmp_path, {0: "PXE", 3: "baremetal", 4: "baremetal"}, [0, 3, 4])
    done = there.put("baremetal", PART, "\\EFI\\BOOT\\BOOTX64.EFI")
    assert (done["entry"], done["order"]) == ("Boot0003", ["0003", "0000"])
    assert [e.number for e in there.entries()] == [0, 3]


def test_cleaning_takes_it_away(tmp_path: Path) -> None:
    there = firmware(tmp_path, {0: "PXE", 3: "baremetal"}, [3, 0])
    assert there.drop("baremetal") == ["Boot0003"]
    assert (there.order(), [e.label for e in there.entries()]) == ([0], ["PXE"])
    assert there.drop("baremetal") == []


@pytest.mark.parametrize("raw", [b"", b"\0" * 7, b"\1\0\0\0\xff\xffA\0\0\0", b"\1\0\0\0\4\0" + b"A\0" * 9])
def test_a_damaged_entry_is_left_alone(raw: bytes) -> None:
    assert efiboot.parse(0, raw) is None


@pytest.fixture(params=["2M", "16M", "34M"], ids=["fat12", "fat16", "fat32"])
def volume(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "esp"
    subprocess.run(["truncate", "-s", request.param, path], check=True)
    subprocess.run(["mformat", *(["-F"] if request.param == "34M" else []), "-i", path, "::"], check=True)
    for folder in ("EFI", "EFI/BOOT", "EFI/A-Distribution-With-A-Long-Name"):
        subprocess.run(["mmd", "-i", path, f"::/{folder}"], check=True)
    return path


def put(path: Path, name: str) -> None:
    subprocess.run(["mcopy", "-i", path, "/etc/hostname", f"::/{name}"], check=True)


def loader(path: Path) -> str | None:
    data = path.read_bytes()
    return fat.loader(lambda offset, length: data[offset : offset + length])


def test_shim_before_grub_before_the_fallback(volume: Path) -> None:
    assert loader(volume) is None
    put(volume, "EFI/BOOT/BOOTX64.EFI")
    assert str(loader(volume)).lower() == "\\efi\\boot\\bootx64.efi"
    put(volume, "EFI/A-Distribution-With-A-Long-Name/grubx64.efi")
    assert str(loader(volume)) == "\\EFI\\A-Distribution-With-A-Long-Name\\" + str(loader(volume)).rpartition("\\")[2]
    assert str(loader(volume)).lower().endswith("grubx64.efi")
    put(volume, "EFI/A-Distribution-With-A-Long-Name/shimx64.efi")
    assert str(loader(volume)).lower().endswith("\\shimx64.efi")


@pytest.mark.parametrize("data", [b"", bytes(512), b"\xff" * 4096, bytes(510) + b"\x55\xaa"])
def test_no_fat_is_said_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="FAT"):
        fat.loader(lambda offset, length: data[offset : offset + length])
