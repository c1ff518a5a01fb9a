"""A whole clean by the drive's own erase, on drives that QEMU has not: what goes to them, how they are left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulated_drives import AtaDrive, NvmeDrive

from baremetal.agents import ata, cleaner, nvme
from baremetal.agents.disks import Disk
from baremetal.agents.trouble import NoSuchErase, WipeUnproved

MIB = 1 << 20
SIZE = 9 * MIB
SANITIZE, CRYPTO, BLOCK = 1 << 12, 1 << 13, 1 << 15  # IDENTIFY word 59
SECURITY, ENHANCED = 1, 1 << 5  # IDENTIFY word 128


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ata.time, "sleep", lambda _s: None)


def clean(drive: AtaDrive | NvmeDrive, monkeypatch: pytest.MonkeyPatch, method: str = "secure") -> dict[str, Any]:
    """The result for the one disk; the drive is full of data before."""
    drive.path.write_bytes(b"\xa5" * SIZE)
    module: Any = ata if isinstance(drive, AtaDrive) else nvme
    bus = "sata" if module is ata else "nvme"
    monkeypatch.setattr(module.fcntl, "ioctl", drive.ioctl)
    disk = Disk("sda" if bus == "sata" else "nvme0n1", str(drive.path), SIZE, serial="S1", transport=bus)
    done = cleaner.clean({"disks": [{"serial": "S1"}], "method": method}, [disk], lambda *_: None)
    found: dict[str, Any] = done["disks"][0]
    return found


ATA = [  # what it can, what is done, what goes to it
    ({"sanitize": SANITIZE | CRYPTO | BLOCK}, "ata-sanitize-crypto", "ec b4:11 b4:00 b4:00"),
    ({"sanitize": SANITIZE | BLOCK, "security": SECURITY}, "ata-sanitize-block", "ec b4:12 b4:00 b4:00"),
    ({"security": SECURITY}, "ata-secure-erase", "ec f1 f3 f4 ec"),
    ({"security": SECURITY | ENHANCED}, "ata-secure-erase-enhanced", "ec f1 f3 f4 ec"),
]


@pytest.mark.parametrize(("can", "done", "log"), ATA, ids=[name for _, name, _ in ATA])
def test_ata(can: dict[str, int], done: str, log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = AtaDrive(tmp_path / "disk", **can)  # type: ignore[arg-type]
    result = clean(drive, monkeypatch)
    assert result["method"] == done
    assert result["spots_changed"] == 256
    assert drive.log == log.split()
    assert drive.password is None
    assert drive.path.read_bytes() == bytes(SIZE)


NVME = [  # what it can, what is done, what goes to it: opcode, namespace, dword 10
    ({"sanicap": 3}, "nvme-sanitize-crypto", ["84:0:4"]),
    ({"sanicap": 2}, "nvme-sanitize-block", ["84:0:2"]),
    ({"sanicap": 2, "ends": 4}, "nvme-sanitize-block", ["84:0:2"]),
    ({"flbas": 0x12, "dps": 0x9}, "nvme-format-erase", ["80:1:332"]),
    ({"flbas": 0x21}, "nvme-format-erase", ["80:1:1201"]),
]


@pytest.mark.parametrize(("can", "done", "log"), NVME)
def test_nvme(can: dict[str, int], done: str, log: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = NvmeDrive(tmp_path / "disk", **can)
    before = drive.flbas, drive.dps
    result = clean(drive, monkeypatch)
    assert result["method"] == done
    assert [line for line in drive.log if line[:2] in ("80", "84")] == log
    assert (drive.flbas, drive.dps) == before, "block size, metadata and protection are as they were"
    assert drive.path.read_bytes() == bytes(SIZE)


def test_nvme_that_promises_sanitize_and_refuses_it_is_formatted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = NvmeDrive(tmp_path / "disk", sanicap=3)
    drive.refuses = True
    assert clean(drive, monkeypatch)["method"] == "nvme-format-erase"
    assert [line[:2] for line in drive.log] == ["06", "84", "06", "80"]


REFUSED = [  # what it can and does, words of the fault
    ({"security": SECURITY, "trouble": "frozen"}, "frozen by the firmware"),
    ({"security": SECURITY, "trouble": "erase"}, "command 0xf4 was refused"),
    ({"security": SECURITY, "trouble": "key"}, "still has its erase password"),
    ({"sanitize": SANITIZE | BLOCK, "trouble": "sanitize"}, "sanitize ended with an error"),
    ({}, "neither sanitize nor secure erase"),
]


@pytest.mark.parametrize(("can", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_ata_that_does_not(can: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = AtaDrive(tmp_path / "disk", **can)
    with pytest.raises(NoSuchErase) as caught:
        clean(drive, monkeypatch)
    assert words in caught.value.detail
    if drive.trouble == "erase":  # a drive with a password nobody knows is lost at its next power-on
        assert drive.password is None
        assert drive.log == ["ec", "f1", "f3", "f4", "f2", "f6"]


@pytest.mark.parametrize(("ends", "words"), [(3, "sanitize ended with status 3"), (0, "ended with status 0")])
def test_nvme_that_does_not(ends: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSuchErase) as caught:
        clean(NvmeDrive(tmp_path / "disk", sanicap=2, ends=ends), monkeypatch)
    assert words in caught.value.detail


LIARS = [(AtaDrive, {"sanitize": SANITIZE | BLOCK}), (AtaDrive, {"security": SECURITY}), (NvmeDrive, {"sanicap": 1})]


@pytest.mark.parametrize(("kind", "can"), LIARS)
@pytest.mark.parametrize("method", ["secure", "best"])
def test_who_only_says_so(
    kind: Any, can: dict[str, int], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = kind(tmp_path / "disk", **can)
    drive.forgets = False
    with pytest.raises(WipeUnproved, match="still holds what it held"):
        clean(drive, monkeypatch, method)


def test_best_overwrites_what_a_frozen_drive_will_not_erase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = AtaDrive(tmp_path / "disk", security=SECURITY, trouble="frozen")
    result = clean(drive, monkeypatch, "best")
    assert result["method"].startswith("zero (")
    assert "frozen" in result["method"]
    assert result["bytes_verified"] == SIZE
    assert drive.path.read_bytes() == bytes(SIZE)
