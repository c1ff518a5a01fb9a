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
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import efiboot, gpt
from baremetal.images import builder, catalog
from baremetal.images.definition import with_options
from baremetal.protocol import configdrive
from baremetal.workflows import shacrypt

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
    size, folder = 64 * MIB, tmp_path_factory.mktemp("raw")
    disk = io.BytesIO(bytes(size))
    esp = gpt.Partition(1, efiboot.ESP, uuid.uuid4(), 2048, 10239, "esp")
    root = gpt.Partition(2, ROOT, uuid.uuid4(), 14336, size // 512 - 2048, "root")
    gpt.write(disk, replace(gpt.empty(size), partitions=(esp, root)), size)
    gpt.write_protective_mbr(disk, size)
    disk.seek(MIB)
    disk.write(loaders(folder / "esp"))
    disk.seek(8 * MIB + 12345)
    disk.write(random.Random(8).randbytes(12 * MIB))
    path = folder / "golden.raw"
    path.write_bytes(disk.getvalue())
    return path


def loaders(path: Path) -> bytes:
    """An EFI system partition of 4 MiB as Debian's installer leaves it."""
    subprocess.run(["truncate", "-s", "4M", path], check=True)
    subprocess.run(["mformat", "-i", path, "::"], check=True)
    for folder in ("EFI", "EFI/BOOT", "EFI/debian"):
        subprocess.run(["mmd", "-i", path, f"::/{folder}"], check=True)
    for name in ("EFI/BOOT/BOOTX64.EFI", "EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi"):
        subprocess.run(["mcopy", "-i", path, "/etc/hostname", f"::/{name}"], check=True)
    return path.read_bytes()


def boot(pair: tuple[Path, Path], scenario: dict[str, Any], keep: Path | None = None) -> dict[str, Any]:
    """`keep`: the folder that gets the disks as raw files disk0, disk1 …"""
    command = [str(REPOSITORY / "hack/ramdisk-vm"), *map(str, pair)]
    environment = {**os.environ, **({"RAMDISK_VM_KEEP": str(keep)} if keep else {})}
    done = subprocess.run(
        command, input=json.dumps(scenario), capture_output=True, text=True, env=environment, timeout=580, check=False
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
    result = boot(cloud, {"machine": machine, "raw": str(raw), "orders": orders("VD0")}, tmp_path)
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
    holds(tmp_path / "disk0", raw)


def test_uefi_nvme_secure_erase_with_a_dead_clock(cloud: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    machine = {"uefi": True, "disks": ["nvme", "nvme"], "clock": "2001-01-01", "fill": {"1": str(raw)}, "disk_gib": 1}
    erase_other = {"kind": "clean", "args": {"disks": [{"serial": "NV1"}], "method": "best"}}
    asked = [*orders("NV0", "secure")[:-1], erase_other, {"kind": "power_off"}]
    result = boot(cloud, {"machine": machine, "raw": str(raw), "orders": asked}, tmp_path)
    inspected, cleaned, written, other, _ = all_done(result)
    assert inspected["inventory"]["boot"]["current_boot_mode"] == "uefi"
    assert "wear_percent" in inspected["inventory"]["disks"][0]["health"]
    assert cleaned["disks"][0]["method"].startswith("nvme-format-")
    assert other["disks"][0]["method"].startswith("nvme-format-")
    assert other["disks"][0]["spots_changed"] > 0, "what lay in the middle of the drive was read before and after"
    assert not any((tmp_path / "disk1").read_bytes()), "the drive itself zeroed all of it, not our few MiB at the ends"
    assert "clock set to" in result["console"]
    assert written["disk"] == "/dev/nvme0n1"
    entry = written["boot_entry"]
    assert (entry["label"], entry["loader"].lower()) == ("baremetal", "\\efi\\debian\\shimx64.efi")
    assert entry["order"] == [entry["entry"][4:], "0000"], "ours first, the firmware's own kept"
    holds(tmp_path / "disk0", raw)


def test_connections_cut_all_the_time(cloud: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    scenario = {"raw": str(raw), "cut_every": 3_333_333, "orders": orders("VD0")}
    _, _, written, _ = all_done(boot(cloud, scenario, tmp_path))
    assert written["resumed"] >= 3
    holds(tmp_path / "disk0", raw)


def test_a_failing_drive_is_named_with_the_byte(cloud: tuple[Path, Path], raw: Path) -> None:
    sector = (9 * MIB) // 512  # in the middle of the image's data
    machine = {"disks": ["blkdebug"], "bad_sector": sector}
    result = boot(cloud, {"machine": machine, "raw": str(raw), "orders": [orders("BD0")[2], {"kind": "power_off"}]})
    report = result["orders"][0]["report"]
    assert (report["outcome"], report["fault"]["code"]) == ("failed", "disk-io")
    assert report["fault"]["evidence"]["disk"] == "/dev/vda"
    assert report["fault"]["evidence"]["offset"] <= 9 * MIB < report["fault"]["evidence"]["offset"] + 4 * MIB


def fault_of(order: dict[str, Any]) -> tuple[str, str]:
    fault = order["report"]["fault"] or {}
    assert fault.get("brief"), order
    assert fault.get("fix") or fault.get("detail"), fault
    return order["report"]["outcome"], fault["code"]


def test_bad_orders_and_bad_images_change_nothing_and_say_why(
    cloud: tuple[Path, Path], raw: Path, tmp_path: Path
) -> None:
    """One boot, one fault after the other, each with its own code; then a good order on the same machine."""

    def write(hints: dict[str, Any], image: str = "@image", **more: Any) -> dict[str, Any]:
        args = {"image": image, "config_drive": "@drive", "root_device": hints}
        return {"kind": "write_image", "args": args, **more}

    machine = {
        "disks": ["virtio", "virtio", "twin", "twin", "readonly"],
        "sizes_mib": {"1": 64},
        "fill": {"0": str(raw)},
    }
    bad = [
        (write({"serial": "NONE"}), "no-disk"),
        (write({"serial": "TWIN"}), "disk-ambiguous"),
        (write({"serial": "VD1"}), "disk-too-small"),
        (write({"serial": "RO4"}), "disk-read-only"),
        (write({"color": "red"}), "order-refused"),
        (write({"serial": "VD0"}, unsigned=True), "order-refused"),
        (write({"serial": "VD0"}, "@forged"), "image-signature"),
        ({"kind": "clean", "args": {"disks": [{"serial": "VD0", "foreign": False}]}}, "foreign-data"),
        ({"kind": "clean", "args": {"disks": [{"serial": "GONE"}]}}, "disk-refused"),
        ({"kind": "clean", "args": {"disks": [{"serial": "VD0"}], "method": "secure"}}, "erase-unsupported"),
        ({"kind": "run_step", "args": {"script": "none"}}, "order-refused"),
        (write({"serial": "VD0"}, "@corrupt"), "image-chunk-corrupt"),
    ]
    asked = [order for order, _ in bad] + [write({"serial": "VD0"}), {"kind": "power_off"}]
    result = boot(cloud, {"machine": machine, "raw": str(raw), "orders": asked}, tmp_path)
    told = [fault_of(order) for order in result["orders"][: len(bad)]]
    assert told == [("failed", code) for _, code in bad], result["console"][-3000:]
    assert result["orders"][-2]["report"]["outcome"] == "done"
    holds(tmp_path / "disk0", raw)


def test_a_mirror_is_made_deployed_and_each_half_holds_the_image(
    cloud: tuple[Path, Path], raw: Path, tmp_path: Path
) -> None:
    asked = [
        {"kind": "raid_create", "args": {"logical_disks": [{"raid_level": "1", "size_gb": "MAX"}]}},
        {
            "kind": "write_image",
            "args": {"image": "@image", "config_drive": "@drive", "raid": True, "root_device": {"name": "/dev/md0"}},
        },
        {"kind": "clean", "args": {"disks": [{"serial": "VD2"}]}},
        {"kind": "power_off"},
    ]
    machine = {"disks": ["virtio", "virtio", "virtio"], "disk_gib": 1}
    plan = asked[0]["args"]["logical_disks"][0]  # type: ignore[index]
    plan["physical_disks"] = [{"serial": "VD0"}, {"serial": "VD1"}]
    made, written, *_ = all_done(boot(cloud, {"machine": machine, "raw": str(raw), "orders": asked}, tmp_path))
    assert [m["serial"] for m in made["logical_disks"][0]["members"]] == ["VD0", "VD1"]
    assert written["disk"] == "/dev/md0"
    wanted = raw.read_bytes()[MIB : 60 * MIB]
    for half in ("disk0", "disk1"):
        with (tmp_path / half).open("rb") as f:
            assert [p.name for p in gpt.read(f).partitions] == ["esp", "root", "config-2"]
            f.seek(MIB)
            assert f.read(len(wanted)) == wanted


@pytest.mark.slow
def test_rescue_lets_in_by_password_and_dials_out_and_listens_nowhere(cloud: tuple[Path, Path]) -> None:
    word = "abcd-efgh"
    args = {"password_hash": shacrypt.hashed(word), "ssh": {"dial": "192.168.77.1:2222"}}
    ports = "netstat -ltnu | grep -c -e LISTEN -e 0.0.0.0:; echo PORTS-$((1+1))\n"
    typed = [
        ["login:", "root\n"], ["Password:", "wrong\n"], ["login:", "root\n"], ["Password:", word + "\n"],
        ["#", "echo IN-$((40+2))\n"], ["IN-42", ports], ["PORTS-2", "\n"],
    ]  # fmt: skip
    result = boot(cloud, {"orders": [{"kind": "rescue", "args": args}], "listen": 2222, "type": typed})
    report = result["orders"][0]["report"]
    assert report["outcome"] == "done", report
    assert report["data"]["host_key"].startswith("SHA256:")
    console = result["console"]
    assert "Login incorrect" in console
    assert "IN-42" in console, console[-2000:]
    assert result["dialled"].startswith("SSH-2.0-dropbear")
    said = console.replace("\r", "").rpartition("PORTS-2")[0]
    assert said.endswith("\n0\n"), f"a port is open: {said[-400:]}"


def test_two_nics_and_two_disks_and_a_data_partition_that_survives(
    cloud: tuple[Path, Path], raw: Path, tmp_path: Path
) -> None:
    def write(**more: Any) -> dict[str, Any]:
        args = {"image": "@image", "config_drive": "@drive", "root_device": {"serial": "VD1"}, **more}
        return {"kind": "write_image", "args": args}

    asked = [
        {"kind": "inspect", "args": {"lldp_s": 10}},
        write(data_partition={"name": "data", "size_gib": 0.5}),
        write(preserve=["data"]),
        {"kind": "power_off"},
    ]
    machine = {"disks": ["virtio", "virtio"], "disk_gib": 2, "nics": 2}
    inspected, first, second, _ = all_done(
        boot(cloud, {"machine": machine, "raw": str(raw), "orders": asked, "switch": "leaf-7"}, tmp_path)
    )
    nics = inspected["inventory"]["interfaces"]
    assert [n["mac_address"][-2:] for n in nics] == ["01", "02"]
    assert all(n["has_carrier"] for n in nics)
    told = [n["lldp_processed"] for n in nics]
    assert [(t["system_name"], t["port_id"]) for t in told] == [("leaf-7", "Gi1/0/0"), ("leaf-7", "Gi1/0/1")]
    assert first["data_partition"]["made"]
    assert second["preserved"] == ["data"]
    with (tmp_path / "disk1").open("rb") as f:
        names = [p.name for p in gpt.read(f).partitions]
        assert names == ["esp", "root", "config-2", "data"], "by number: what is kept keeps its own"
    assert not any((tmp_path / "disk0").read_bytes()[:MIB]), "the other disk was not touched"


@pytest.mark.slow
def test_half_a_gigabyte_of_memory_deploys_twenty(cloud: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.raw"
    large.write_bytes(raw.read_bytes())
    os.truncate(large, 20 << 30)
    asked = [
        {"kind": "write_image", "args": {"image": "@image", "root_device": {"serial": "VD0"}}},
        {"kind": "power_off"},
    ]
    written, _ = all_done(
        boot(cloud, {"machine": {"memory_mib": 512, "disk_gib": 24}, "raw": str(large), "orders": asked})
    )
    assert written["bytes"] == 20 << 30
    assert written["peak_rss_kib"] < 150 * 1024


@pytest.mark.slow
def test_a_machine_without_a_disk_is_read_and_told_so(cloud: tuple[Path, Path], raw: Path) -> None:
    asked = [{"kind": "inspect"}, orders("VD0")[1], orders("VD0")[2], {"kind": "power_off"}]
    result = boot(cloud, {"machine": {"disks": []}, "raw": str(raw), "orders": asked})
    inspected, cleaned, written, _ = (o["report"] for o in result["orders"])
    assert inspected["data"]["inventory"]["disks"] == []
    assert (cleaned["fault"]["code"], written["fault"]["code"]) == ("disk-refused", "no-disk")


@pytest.mark.slow
def test_a_clock_of_the_far_future_is_set_and_trusted_as_little(
    cloud: tuple[Path, Path], raw: Path, tmp_path: Path
) -> None:
    scenario = {"machine": {"clock": "2096-01-01"}, "raw": str(raw), "orders": orders("VD0")}
    result = boot(cloud, scenario, tmp_path)
    all_done(result)
    assert "clock set to" in result["console"]
    holds(tmp_path / "disk0", raw)


HEALING = {
    "the server goes away for 8 s": {"away": [4 << 20, 8]},
    "the cable is out for a while": {
        "qmp": [[4 << 20, "set_link", {"name": "nic0", "up": False}]],
        "later": [[6, "set_link", {"name": "nic0", "up": True}]],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HEALING)
def test_what_can_heal_heals(cloud: tuple[Path, Path], raw: Path, tmp_path: Path, what: str) -> None:
    scenario = {"raw": str(raw), "orders": [orders("VD0")[2], {"kind": "power_off"}], **HEALING[what]}
    written, _ = all_done(boot(cloud, scenario, tmp_path))
    assert written["resumed"] >= ("away" in HEALING[what]), "a cable that comes back in time breaks no connection"
    holds(tmp_path / "disk0", raw)


@pytest.mark.slow
def test_a_disk_that_vanishes_is_named(cloud: tuple[Path, Path], raw: Path) -> None:
    machine = {"disks": ["scsi"]}
    qmp = [[4 << 20, "device_del", {"id": "disk0"}]]
    asked = [orders("SC0")[2], {"kind": "power_off"}]
    result = boot(cloud, {"machine": machine, "raw": str(raw), "qmp": qmp, "orders": asked})
    report = result["orders"][0]["report"]
    assert (report["outcome"], report["fault"]["code"]) == ("failed", "disk-io"), report
    assert "vanished" in report["fault"]["brief"]
    assert report["fault"]["evidence"]["disk"] == "/dev/sda"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "words"),
    [({"rogue": True}, "is not the server this ramdisk was made for"), ({"refuse_hello": True}, "hello refused")],
    ids=["a rogue server", "a replayed nonce"],
)
def test_who_is_not_trusted_gets_nothing(cloud: tuple[Path, Path], trouble: dict[str, Any], words: str) -> None:
    command = [str(REPOSITORY / "hack/ramdisk-vm"), *map(str, cloud)]
    scenario = {**trouble, "hello_patience_s": 90, "await_end": True, "orders": []}
    done = subprocess.run(command, input=json.dumps(scenario), capture_output=True, text=True, timeout=400, check=False)
    result = json.loads(done.stdout)
    assert words in result["console"], result["console"][-2000:]
    assert "order:" not in result["console"]


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [True, False])
def test_a_shell_only_when_the_operator_allowed_it(cloud: tuple[Path, Path], allowed: bool) -> None:
    command = [str(REPOSITORY / "hack/ramdisk-vm"), *map(str, cloud)]
    scenario = {"rogue": True, "hello_patience_s": 40, "cmdline": "baremetal.shell=1" if allowed else "", "orders": []}
    done = subprocess.run(command, input=json.dumps(scenario), capture_output=True, text=True, timeout=400, check=False)
    assert ("shell on the console" in json.loads(done.stdout)["console"]) is allowed


FORMAT_OF = """#!/usr/bin/python3
import json, sys; sys.path.insert(0, "/usr/lib/python3.11")
from baremetal.agents import nvme
page = nvme.admin("/dev/nvme0n1", nvme.IDENTIFY, 1, 4096)
print(json.dumps({"flbas": page[26], "dps": page[29]}))
"""


@pytest.mark.slow
def test_nvme_with_blocks_of_4_kib_and_one_of_two_namespaces(
    cloud: tuple[Path, Path], raw: Path, tmp_path: Path
) -> None:
    """Format leaves a drive's format as it is; no drive's own erase is asked for beside a namespace nobody listed."""

    def clean(method: str, *disks: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "clean", "args": {"disks": list(disks), "method": method}}

    look = {"kind": "run_step", "args": {"script": "format-of"}}
    first, second = {"serial": "NT", "size": 256 * MIB}, {"serial": "NT", "size": 128 * MIB}
    asked = [
        look,
        clean("secure", {"serial": "NK0"}),
        look,
        clean("secure", first),
        clean("best", first),
        clean("secure", {"serial": "NT"}),
        clean("secure", first, second),
        {"kind": "power_off"},
    ]
    machine = {
        "disks": ["nvme-4k", "nvme-first", "nvme-second"],
        "sizes_mib": {"0": 256, "1": 256, "2": 128},
        "fill": {str(n): str(raw) for n in range(3)},
    }
    scenario = {"machine": machine, "orders": asked, "files": {"usr/lib/baremetal/steps/format-of": FORMAT_OF}}
    result = boot(cloud, scenario, tmp_path)
    before, whole, after, alone, best, which, both = (o["report"] for o in result["orders"][:7])
    assert before["data"]["result"]["flbas"] & 0xF != 0, before
    assert after["data"]["result"] == before["data"]["result"], "another block size than before"
    assert whole["data"]["disks"][0]["method"].startswith("nvme-format-"), whole
    assert fault_of({"report": alone}) == ("failed", "erase-unsupported"), alone
    assert "nvme1n2" in alone["fault"]["brief"], alone
    assert best["data"]["disks"][0]["method"].startswith("zero ("), best
    assert fault_of({"report": which}) == ("failed", "disk-refused"), which
    assert [d["method"][:12] for d in both["data"]["disks"]] == ["nvme-format-"] * 2, both
    for n in range(3):
        data = (tmp_path / f"disk{n}").read_bytes()
        assert data == bytes(len(data)), f"something was left on disk {n}"


@pytest.mark.slow
def test_a_drive_that_fails_its_own_erase_is_never_called_clean(cloud: tuple[Path, Path]) -> None:
    """QEMU's NVMe drive reads and writes nothing any more after a Format that failed: `best` cannot overwrite it."""

    def clean(method: str) -> dict[str, Any]:
        return {"kind": "clean", "args": {"disks": [{"serial": "NB0"}], "method": method}}

    machine = {"disks": ["nvme-bad"], "disk_gib": 0.25}
    result = boot(cloud, {"machine": machine, "orders": [clean("secure"), clean("best"), {"kind": "power_off"}]})
    secure, best = (o["report"] for o in result["orders"][:2])
    assert (secure["outcome"], secure["fault"]["code"]) == ("failed", "erase-unsupported"), secure
    assert "status" in secure["fault"]["detail"], secure["fault"]
    assert (best["outcome"], best["fault"]["code"]) == ("failed", "disk-io"), best
    assert best["fault"]["evidence"]["disk"] == "/dev/nvme0n1"


@pytest.mark.slow
@pytest.mark.parametrize("nic", ["e1000", "e1000e"])
def test_generic_kernel_ahci(generic: tuple[Path, Path], raw: Path, tmp_path: Path, nic: str) -> None:
    machine = {"disks": ["ahci", "usb"], "disk_gib": 1, "nic": nic, "nics": 2, "ipmi": True}
    result = boot(generic, {"machine": machine, "raw": str(raw), "orders": orders("AH0", "best")}, tmp_path)
    inspected, cleaned, written, _ = all_done(result)
    disks = {d["serial"]: d for d in inspected["inventory"]["disks"]}
    assert disks["AH0"]["by_path"].endswith("-ata-1")
    assert disks["US1"]["refusal"]
    assert inspected["inventory"]["bmc_address"] == "10.91.77.11"
    assert inspected["inventory"]["bmc_mac"]
    assert disks["AH0"]["health"]["failing"] is False
    assert cleaned["disks"][0]["method"].startswith("zero ("), "QEMU's ATA disk cannot erase itself"
    assert inspected["inventory"]["interfaces"][0]["driver"] == nic
    assert written["disk"] == "/dev/sda"
    holds(tmp_path / "disk0", raw)
