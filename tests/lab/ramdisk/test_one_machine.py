"""The real ramdisk in a virtual machine: every disk bus and firmware, small memory, wrong clock, faults.

The images' builder makes the ramdisk (cached under BAREMETAL_CACHE_DIR); hack/ramdisk-vm boots it.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import gpt
from baremetal.images import builder, catalog
from baremetal.images.definition import with_options
from baremetal.protocol import configdrive

pytestmark = [pytest.mark.lab, pytest.mark.images]
MIB = 1 << 20
REPOSITORY = Path(__file__).resolve().parents[3]
ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")


def ramdisk(kernel: str) -> tuple[Path, Path]:
    options = builder.Options(cache=Path(os.environ.get("BAREMETAL_CACHE_DIR", "/var/cache/baremetal")))
    built = builder.build(with_options(catalog.find("deploy-ramdisk"), {"kernel": kernel}), options)
    return built.directory / "kernel", built.directory / "initrd"


@pytest.fixture(scope="session")
def cloud() -> tuple[Path, Path]:
    return ramdisk("cloud-amd64")


@pytest.fixture(scope="session")
def generic() -> tuple[Path, Path]:
    return ramdisk("amd64")


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden disk of 64 MiB: GPT, 12 MiB that do not compress, long zeros."""
    size = 64 * MIB
    disk = io.BytesIO(bytes(size))
    gpt.write(disk, gpt.append(gpt.empty(size), 60 * MIB, ROOT, "root"), size)
    gpt.write_protective_mbr(disk, size)
    disk.seek(8 * MIB + 12345)
    disk.write(random.Random(8).randbytes(12 * MIB))
    path = tmp_path_factory.mktemp("raw") / "golden.raw"
    path.write_bytes(disk.getvalue())
    return path


def boot(pair: tuple[Path, Path], scenario: dict[str, Any], keep: Path | None = None) -> dict[str, Any]:
    command = [str(REPOSITORY / "hack/ramdisk-vm"), *map(str, pair)]
    environment = {**os.environ, **({"RAMDISK_VM_KEEP": str(keep)} if keep else {})}
    done = subprocess.run(
        command, input=json.dumps(scenario), capture_output=True, text=True, env=environment, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert "hello" in result, result["console"][-3000:]
    return result


def orders(serial: str, method: str = "metadata") -> list[dict[str, Any]]:
    return [
        {"kind": "inspect"},
        {"kind": "clean", "args": {"disks": [{"serial": serial}], "method": method}},
        {
            "kind": "write_image",
            "args": {"image": "@image", "config_drive": "@drive", "root_device": {"serial": serial}},
        },
        {"kind": "power_off"},
    ]


def all_done(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Data of the reports, when every order was carried out."""
    faults = [o["report"]["fault"] for o in result["orders"] if o["report"]["outcome"] != "done"]
    assert faults == [], result["console"][-3000:]
    return [o["report"]["data"] for o in result["orders"]]


def holds(disk: Path, raw: Path) -> None:
    """The image is on the disk, its table spans it, the config drive is its last partition."""
    with disk.open("rb") as f, raw.open("rb") as golden:
        f.seek(MIB)
        golden.seek(MIB)
        # The last 33 sectors of the image are its old backup table.
        wanted = golden.read()[: -33 * 512]
        assert f.read(len(wanted)) == wanted
        table = gpt.read(f)  # type: ignore[arg-type]
        assert table.partitions == gpt.read_backup(f, disk.stat().st_size).partitions  # type: ignore[arg-type]
        drive = table.partitions[-1]
        f.seek(drive.first * 512)
        assert "openstack/latest/meta_data.json" in configdrive.read(f.read(drive.sectors * 512))


def test_bios_virtio_with_768_mib(cloud: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    machine = {"memory_mib": 768, "disks": ["virtio", "scsi", "usb"]}
    result = boot(cloud, {"machine": machine, "raw": str(raw), "orders": orders("VD0")}, tmp_path / "disk")
    inspected, cleaned, written, _ = all_done(result)
    inventory = inspected["inventory"]
    disks = {d["serial"]: d for d in inventory["disks"]}
    assert disks["VD0"]["name"] == "/dev/vda"
    assert disks["SC1"]["wwn"] == "0x5000c50015ea71a1"
    assert disks["SC1"]["hctl"]
    assert inventory["system_vendor"]["serial_number"] == "SN1"
    assert inventory["boot"]["current_boot_mode"] == "bios"
    assert inventory["boot"]["pxe_interface"] == inventory["interfaces"][0]["mac_address"] == "52:54:00:77:00:01"
    assert inventory["interfaces"][0]["has_carrier"]
    assert "errors" not in inventory
    assert cleaned["disks"][0]["bytes_verified"] >= 8 * MIB
    assert written["resumed"] == 0
    holds(tmp_path / "disk", raw)


def test_uefi_nvme_secure_erase_with_a_dead_clock(cloud: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    machine = {"uefi": True, "disks": ["nvme"], "clock": "2001-01-01"}
    result = boot(cloud, {"machine": machine, "raw": str(raw), "orders": orders("NV0", "secure")}, tmp_path / "disk")
    inspected, cleaned, written, _ = all_done(result)
    assert inspected["inventory"]["boot"]["current_boot_mode"] == "uefi"
    assert "wear_percent" in inspected["inventory"]["disks"][0]["health"]
    assert cleaned["disks"][0]["method"].startswith("nvme-format-")
    assert "clock set to" in result["console"]
    assert written["disk"] == "/dev/nvme0n1"
    holds(tmp_path / "disk", raw)


def test_connections_cut_all_the_time(cloud: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    scenario = {"raw": str(raw), "cut_every": 3_333_333, "orders": orders("VD0")}
    _, _, written, _ = all_done(boot(cloud, scenario, tmp_path / "disk"))
    assert written["resumed"] >= 3
    holds(tmp_path / "disk", raw)


def test_a_failing_drive_is_named_with_the_byte(cloud: tuple[Path, Path], raw: Path) -> None:
    sector = (9 * MIB) // 512  # in the middle of the image's data
    machine = {"disks": ["blkdebug"], "bad_sector": sector}
    result = boot(cloud, {"machine": machine, "raw": str(raw), "orders": [orders("BD0")[2], {"kind": "power_off"}]})
    report = result["orders"][0]["report"]
    assert (report["outcome"], report["fault"]["code"]) == ("failed", "disk-io")
    assert report["fault"]["evidence"]["disk"] == "/dev/vda"
    assert report["fault"]["evidence"]["offset"] <= 9 * MIB < report["fault"]["evidence"]["offset"] + 4 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("nic", ["e1000", "e1000e"])
def test_generic_kernel_ahci(generic: tuple[Path, Path], raw: Path, tmp_path: Path, nic: str) -> None:
    machine = {"disks": ["ahci", "usb"], "nic": nic}
    result = boot(generic, {"machine": machine, "raw": str(raw), "orders": orders("AH0")}, tmp_path / "disk")
    inspected, _, written, _ = all_done(result)
    disks = {d["serial"]: d for d in inspected["inventory"]["disks"]}
    assert disks["AH0"]["by_path"].endswith("-ata-1")
    assert disks["US1"]["refusal"]
    assert inspected["inventory"]["interfaces"][0]["driver"] == nic
    assert written["disk"] == "/dev/sda"
    holds(tmp_path / "disk", raw)
