"""Every disk layout and file system we write is booted, by the firmware it is for, and says what it mounted.

Images are built from the machine's Debian mirror; BAREMETAL_TEST_IMAGE_CACHE
names a cache to keep between runs. Needs root, QEMU and OVMF; half a minute of
CPU a boot under TCG.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from baremetal.images import builder
from baremetal.images.classic import Call, definition
from baremetal.images.definition import Definition, Disk
from baremetal.images.elements import dib_elements_dir
from baremetal.lab import accel

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(1500)]
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"
BASE = ("debian-base", "cloud-kernel", "lean-initrd", "bootloader", "growroot", "boot-report")
OVMF = Path("/usr/share/OVMF")
LONGEST_BOOT_S = 400

SEPARATE_BOOT = """
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: bios, type: EF02, size: 1MiB}
      - {name: esp, type: EF00, size: 32MiB}
      - name: boot
        type: '8300'
        size: 160MiB
        mkfs: {type: ext4, mount: {mount_point: /boot, fstab: {options: defaults, fsck-passno: 2}}}
      - name: root
        type: '8304'
        size: 100%
        mkfs: {type: ext4, mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}
"""

MBR_FOR_BOTH = """
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions:
      - {name: esp, type: EF, size: 32MiB, mkfs: {type: vfat, mount: {mount_point: /boot/efi, fstab: {}}}}
      - {name: swap, size: 64MiB, mkfs: {type: swap, mount: {mount_point: swap, fstab: {}}}}
      - name: root
        size: 100%
        flags: [boot]
        mkfs: {type: ext4, opts: -J size=32, mount: {mount_point: /, fstab: {}}}
"""


@dataclass(frozen=True)
class Report:
    """What the booted machine said."""

    mounts: dict[str, tuple[str, str, str]]
    firmware: str
    failed: tuple[str, ...]
    swap: bool
    files: dict[str, str]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("BAREMETAL_TEST_IMAGE_CACHE")
    return Path(kept) if kept else tmp_path_factory.mktemp("image-cache")


def build(cache: Path, name: str, disk: Disk, more: Sequence[str] = (), **env: str) -> Path:
    wanted = Definition(name, (*BASE, *more), disk=disk, env=env)
    return builder.build(wanted, builder.Options(cache=cache, elements_path=(ELEMENTS,))).path


def boot(image: Path, place: Path, firmware: str, drives: Sequence[Path] = (), size: str = "3G") -> Report:
    """Boot a copy that is larger than the image; the report it gives."""
    disk = place / f"{image.stem}-{firmware}.qcow2"
    backing = ["-f", "qcow2", "-F", "qcow2", "-b", str(image)]
    subprocess.run(["qemu-img", "create", "-q", *backing, str(disk), size], check=True)
    serial = place / f"{image.stem}-{firmware}.serial"
    command = ["qemu-system-x86_64", "-machine", "q35", "-m", "768", "-smp", "1", "-nodefaults", "-display", "none"]
    command += [*accel.choose().arguments, "-no-reboot", "-serial", f"file:{serial}"]
    command += ["-drive", f"file={disk},if=virtio,cache=unsafe,discard=unmap"]
    for drive in drives:
        command += ["-drive", f"file={drive},if=virtio,format=raw,readonly=on"]
    if firmware == "uefi":
        variables = place / f"{image.stem}.vars"
        shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
        command += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF / 'OVMF_CODE_4M.fd'}"]
        command += ["-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
    try:
        subprocess.run(command, timeout=LONGEST_BOOT_S, check=True)
    except subprocess.TimeoutExpired:
        pytest.fail(f"no report: {serial.read_text(errors='replace')[-3000:]}")
    return read(serial.read_text(errors="replace"))


def read(said: str) -> Report:
    lines = [line.split(" ", 1) for line in re.findall(r"^REPORT (.*?)\r?$", said, re.MULTILINE)]
    assert ["end"] in lines, said[-3000:]
    told = [(line[0], line[1]) for line in lines if len(line) == 2]
    rows = [text.split() for kind, text in told if kind == "mount"]
    files: dict[str, str] = {}
    for kind, text in told:
        if kind == "file":
            name, _, body = text.partition(" ")
            files[name] = files.get(name, "") + body + "\n"
    return Report(
        mounts={row[0]: (row[1], row[2], row[3]) for row in rows},
        firmware=next(text for kind, text in told if kind == "firmware"),
        failed=tuple(text.split()[0] for kind, text in told if kind == "failed"),
        swap=any(kind == "swap" for kind, _ in told),
        files=files,
    )


def mib(size: str) -> float:
    return float(size[:-1]) * {"K": 1 / 1024, "M": 1, "G": 1024}[size[-1]]


def theirs(element: str) -> str:
    """diskimage-builder's own block-device configuration."""
    return (dib_elements_dir() / element / "block-device-default.yaml").read_text()


LAYOUTS = [  # name          disk                                       YAML                          firmware  mounts
    ("hybrid", Disk(), "", "bios", {"/": "ext4"}),
    ("hybrid", Disk(), "", "uefi", {"/": "ext4"}),
    ("hybrid-xfs", Disk(filesystem="xfs"), "", "bios", {"/": "xfs"}),
    ("hybrid-xfs", Disk(filesystem="xfs"), "", "uefi", {"/": "xfs"}),
    ("boot-apart", Disk(layout="elements"), SEPARATE_BOOT, "bios", {"/": "ext4", "/boot": "ext4"}),
    ("boot-apart", Disk(layout="elements"), SEPARATE_BOOT, "uefi", {"/": "ext4", "/boot": "ext4"}),
    (
        "mbr-both",
        Disk(layout="elements"),
        MBR_FOR_BOTH,
        "bios",
        {"/": "ext4", "/boot/efi": "vfat", "swap": ""},
    ),
    (
        "mbr-both",
        Disk(layout="elements"),
        MBR_FOR_BOTH,
        "uefi",
        {"/": "ext4", "/boot/efi": "vfat", "swap": ""},
    ),
    ("their-mbr", Disk(layout="elements"), "block-device-mbr", "bios", {"/": "ext4"}),
    ("their-gpt", Disk(layout="elements"), "block-device-gpt", "bios", {"/": "ext4"}),
    ("their-efi", Disk(layout="elements"), "block-device-efi", "uefi", {"/": "ext4", "/boot/efi": "vfat"}),
]


@pytest.mark.parametrize(
    ("name", "disk", "yaml", "firmware", "mounts"), LAYOUTS, ids=[f"{row[0]}-{row[3]}" for row in LAYOUTS]
)
def test_a_layout_boots_and_mounts_what_it_should(
    cache: Path, tmp_path: Path, name: str, disk: Disk, yaml: str, firmware: str, mounts: dict[str, str]
) -> None:
    env = {"DIB_BLOCK_DEVICE_CONFIG": theirs(yaml) if yaml.startswith("block-device") else yaml} if yaml else {}
    found = boot(build(cache, name, disk, **env), tmp_path, firmware)
    assert found.firmware == firmware
    assert {at: row[1] for at, row in found.mounts.items()} == {at: fs for at, fs in mounts.items() if at != "swap"}
    assert found.swap == ("swap" in mounts)
    assert found.failed == ()
    assert mib(found.mounts["/"][2]) > 2000  # of 3 GiB: the root has grown


@pytest.mark.parametrize(("element", "firmware"), [("block-device-efi", "uefi"), ("block-device-mbr", "bios")])
def test_a_classic_call_with_their_elements_boots(cache: Path, tmp_path: Path, element: str, firmware: str) -> None:
    """Nothing of ours in it but the boot loader; the full kernel and initramfs-tools' own ramdisk."""
    elements = ("debian-minimal", "vm", element, "dhcp-all-interfaces", "boot-report")
    call = Call(elements, output="theirs", skip_base=True)
    options = builder.Options(cache=cache, elements_path=(ELEMENTS,))
    built = builder.build(definition(call, {"DIB_RELEASE": "bookworm"}), options)
    found = boot(built.path, tmp_path, firmware)
    assert found.firmware == firmware
    assert found.mounts["/"][1] == "ext4"
    assert found.failed == ()


NO_CLOUD = {
    "meta-data": "instance-id: one\nlocal-hostname: seeded\n",
    "user-data": "#cloud-config\nusers:\n  - name: op\n    ssh_authorized_keys: [ssh-ed25519 AAAAseed op@x]\n"
    "write_files:\n  - path: /etc/boot-report.extra\n    content: |\n      written by cloud-init\n",
}
CONFIG_DRIVE = {
    "openstack/latest/meta_data.json": '{"uuid": "one", "hostname": "seeded", "name": "seeded"}',
    "openstack/latest/user_data": NO_CLOUD["user-data"],
}


@pytest.mark.parametrize(("label", "files"), [("cidata", NO_CLOUD), ("config-2", CONFIG_DRIVE)])
def test_cloud_init_does_what_its_seed_says(cache: Path, tmp_path: Path, label: str, files: dict[str, str]) -> None:
    seed = tmp_path / "seed"
    for name, body in files.items():
        (seed / name).parent.mkdir(parents=True, exist_ok=True)
        (seed / name).write_text(body)
    drive = tmp_path / "seed.iso"
    subprocess.run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-V", label, "-J", "-r", "-o", str(drive), str(seed)], check=True
    )
    image = build(cache, "cloud", Disk(), ["cloud-init", "ssh"], DIB_CLOUD_INIT_DATASOURCES="NoCloud, ConfigDrive")
    found = boot(image, tmp_path, "bios", [drive])
    assert found.files["/etc/hostname"] == "seeded\n"
    assert found.files["/etc/boot-report.extra"] == "written by cloud-init\n"
    assert found.files["/home/op/.ssh/authorized_keys"] == "ssh-ed25519 AAAAseed op@x\n"
    assert found.failed == ()
