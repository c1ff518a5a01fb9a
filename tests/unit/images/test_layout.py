"""Partition layouts: our default, and diskimage-builder's block-device YAML."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from baremetal.images import disk, layout
from baremetal.images.definition import Disk
from baremetal.images.elements import Element, dib_elements_dir
from baremetal.images.environment import uuid_for
from baremetal.images.errors import BadDefinition, DiskTooSmall
from baremetal.paths import share_dir

MIB = 1 << 20


def of_element(name: str, root: Path | None = None) -> layout.Layout:
    element = Element(name, (root or dib_elements_dir()) / name)
    return layout.choose("web", Disk(layout="elements", root_label="cloudimg-rootfs"), [element], {})


FROM_DIB = [  # element             table  partitions: type, MiB, file system, mount
    ("block-device-gpt", "gpt", [("ef02", 8, "", ""), ("8304", 0, "ext4", "/")]),
    ("block-device-mbr", "mbr", [("8304", 0, "ext4", "/")]),
    ("block-device-efi", "gpt", [("ef00", 550, "vfat", "/boot/efi"), ("ef02", 8, "", ""), ("8300", 0, "ext4", "/")]),
]


@pytest.mark.parametrize(("name", "label", "parts"), FROM_DIB)
def test_elements_of_diskimage_builder(name: str, label: str, parts: list[tuple[str, int, str, str]]) -> None:
    found = of_element(name)
    assert found.label == label
    assert [(p.type, p.size // MIB, p.filesystem, p.mount) for p in found.parts] == parts
    assert found.root.label == "cloudimg-rootfs"


def test_our_element_is_our_default() -> None:
    ours = of_element("block-device-hybrid", share_dir("elements"))
    default = layout.hybrid("web", "cloudimg-rootfs")
    assert [(p.type, p.size, p.mount, p.fs_uuid) for p in ours.parts] == [
        (p.type, p.size, p.mount, p.fs_uuid) for p in default.parts
    ]


@pytest.mark.parametrize("name", ["block-device-efi-lvm", "block-device-efi-4k"])
def test_what_is_not_ours_points_to_the_original(name: str) -> None:
    with pytest.raises(BadDefinition) as caught:
        of_element(name)
    assert "--engine dib" in caught.value.fix


BOOT = """
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: bsp, type: EF02, size: 1MiB}
      - name: boot
        size: 200MiB
        mkfs: {type: ext4, label: BOOT, mount: {mount_point: /boot, fstab: {options: "defaults,ro", fsck-passno: 2}}}
      - name: root
        size: 100%
        mkfs: {type: ext4, mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}
"""


def test_a_boot_partition_and_its_fstab() -> None:
    found = layout.from_yaml(BOOT, "web", "root", "x.yaml")
    boot, root = found.part("/boot"), found.root
    assert boot is not None
    assert found.fstab().splitlines() == [
        f"UUID={root.fs_uuid} / ext4 defaults,x-systemd.growfs 0 1",
        f"UUID={boot.fs_uuid} /boot ext4 defaults,ro 0 2",
    ]
    assert root.fs_uuid == uuid_for("web", "root")
    assert boot.label == "BOOT"


def test_places_are_aligned_and_leave_room_for_the_backup_table() -> None:
    placed = layout.from_yaml(BOOT, "web", "root", "x").placed(1024 * MIB, "web")
    assert [part.start for part in placed.parts] == [2048, 4096, 4096 + 200 * 2048]
    root = placed.root
    assert root.start + root.sectors - 1 == 1024 * 2048 - 34
    with pytest.raises(DiskTooSmall, match="partition boot does not fit"):
        layout.from_yaml(BOOT, "web", "root", "x").placed(100 * MIB, "web")


BROKEN = [  # text                                     what is said
    ("[]", "one partition table is needed"),
    ("- lvm: {name: x, base: y}", "lvm is not assembled here"),
    ("- nonsense: {}", "not a block-device configuration"),
    ("just text", "not a block-device configuration"),
    (BOOT.replace("200MiB", "20%"), "only sizes or 100%"),
    (BOOT.replace("type: ext4, label", "type: btrfs, label"), "btrfs is not made here"),
    (BOOT.replace("mount_point: /,", "mount_point: /data,"), "nothing is mounted at /"),
    (BOOT.replace("200MiB", "100%"), "only the last partition"),
    (BOOT.replace("200MiB", "200quux"), "size '200quux' is none"),
    (BOOT.replace("200MiB", "-200MiB"), "size '-200MiB' is none"),
    (BOOT.replace("200MiB", "10KiB"), "less than 1 MiB"),
    (BOOT.replace("label: gpt", "label: apm"), "'apm' is no partition table"),
    (BOOT.replace("mount_point: /boot", "mount_point: boot"), "cannot be mounted at 'boot'"),
    (BOOT.replace("mount_point: /boot", "mount_point: /boot/../etc"), "not for a line of fstab"),
    (BOOT.replace("mount_point: /boot", "mount_point: /"), "two file systems mounted at /"),
    (BOOT.replace("type: ext4, label", "type: ext4, opts: '-m 5', label"), "options of mkfs are not heeded"),
    (BOOT.replace("type: ext4, label", "type: ext4, uuid: zz, label"), "'zz' is no UUID"),
    (BOOT.replace("type: ext4, label", "type: vfat, label"), "vfat is made on the EFI partition"),
    (
        "- local_loop: {name: image0}\n- partitioning: {base: image0, label: gpt, partitions: text}",
        "not a block-device",
    ),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_broken_yaml_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(BadDefinition, match=said):
        layout.from_yaml(text, "web", "root", "x.yaml")


def test_the_variable_wins_over_elements(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(BOOT)
    env = {"DIB_BLOCK_DEVICE_CONFIG": f"file://{tmp_path}/b.yaml"}
    element = Element("block-device-gpt", dib_elements_dir() / "block-device-gpt")
    assert layout.choose("web", Disk(layout="elements"), [element], env).part("/boot")


def test_an_mbr() -> None:
    placed = of_element("block-device-mbr").placed(64 * MIB, "web")
    table = disk.mbr_table(placed)
    boot, _, kind, _, start, sectors = struct.unpack_from("<B3sB3sII", table)
    assert (boot, kind, start, sectors) == (0x80, 0x83, 2048, 64 * 2048 - 2048)
    assert table[-2:] == b"\x55\xaa"
