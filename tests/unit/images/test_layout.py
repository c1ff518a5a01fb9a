"""Partition layouts: our default, and diskimage-builder's block-device YAML."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from baremetal.images import disk, layout, mkfsopts
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


SWAP = """
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions:
      - {name: esp, type: EF, size: 32MiB, mkfs: {type: vfat, mount: {mount_point: /boot/efi, fstab: {}}}}
      - {name: swap, size: 64MiB, mkfs: {type: swap, label: more, mount: {mount_point: swap, fstab: {options: pri=5}}}}
      - {name: root, size: 100%, mkfs: {type: ext4, opts: -m 0 -O ^64bit, mount: {mount_point: /, fstab: {}}}}
"""


def test_swap_and_an_efi_partition_on_an_mbr() -> None:
    found = layout.from_yaml(SWAP, "web", "root", "x.yaml", root_mkfs="-m 9")
    assert [(p.type, p.filesystem, p.mkfs) for p in found.parts] == [
        ("ef00", "vfat", ""),
        ("8200", "swap", ""),
        ("8304", "ext4", "-m 0 -O ^64bit"),
    ]
    swap = found.parts[1]
    assert f"UUID={swap.fs_uuid} none swap sw 0 0" in found.fstab().splitlines()
    table = disk.mbr_table(found.placed(512 * MIB, "web"))
    assert [table[4 + 16 * number] for number in range(3)] == [0xEF, 0x82, 0x83]


def test_options_of_the_roots_mkfs_are_taken_where_the_yaml_has_none() -> None:
    assert layout.from_yaml(BOOT, "web", "root", "x", root_mkfs="-m0  -J size=8").root.mkfs == "-m 0 -J size=8"
    assert layout.hybrid("web", "root", "xfs", "-m reflink=0").root.mkfs == "-m reflink=0"


EXT4 = [  # options                        words for mke2fs           -E            journal, MiB; inodes' share
    ("", (), (), 16, 1 / 64),
    ("-m 5 -J size=64", ("-m", "5"), (), 64, 1 / 64),
    ("-i 4096", ("-i", "4096"), (), 16, 1 / 16),
    ("-O ^64bit -O ^has_journal", ("-O", "^64bit,^has_journal"), (), 0, 1 / 64),
    ("-E stride=4 -E resize=1G", (), ("stride=4", "resize=1G"), 16, 1 / 64),
]


@pytest.mark.parametrize(
    ("text", "words", "extended", "journal_mib", "share"), EXT4, ids=[r[0] or "none" for r in EXT4]
)
def test_options_of_mke2fs(
    text: str, words: tuple[str, ...], extended: tuple[str, ...], journal_mib: int, share: float
) -> None:
    assert mkfsopts.ext4(text, 16) == mkfsopts.Ext4(words, extended, journal_mib, share)


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
    (
        BOOT.replace("type: ext4, label", "type: ext4, opts: '-b 1024', label"),
        "mkfs of ext4 with -b '1024' is not made",
    ),
    (BOOT.replace("type: ext4, label", "type: ext4, opts: '-E offset=9', label"), "mkfs of ext4 with -E 'offset=9'"),
    (BOOT.replace("type: ext4, label", "type: ext4, opts: '-O casefold', label"), "with -O 'casefold' is not made"),
    (BOOT.replace("type: ext4, label", "type: xfs, opts: '-m uuid=1', label"), "mkfs of xfs with -m 'uuid=1'"),
    (BOOT.replace("type: ext4, label", "type: ext4, opts: '-m', label"), "with -m '' is not made"),
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
