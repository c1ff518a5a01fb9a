"""The parts a disk is made of: cpio, modules, GRUB's bytes, layers, lists, zstd frames."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
from pathlib import Path

import pytest

from baremetal.images import assemble, compare, cpio, grub, inventory, layers, locks, modules, prune, sbom, zst
from baremetal.images.errors import BadImage, BuildFailed


def sample(root: Path) -> Path:
    (root / "d").mkdir(parents=True)
    (root / "d/file").write_bytes(b"12345")
    (root / "d/script").write_text("#!/bin/sh\n")
    (root / "d/script").chmod(0o755)
    (root / "link").symlink_to("d/file")
    return root


def archive(tree: Path, **kwargs: object) -> bytes:
    out = io.BytesIO()
    cpio.write(out, [*cpio.NODES, *cpio.entries(tree, **kwargs)], epoch=7)  # type: ignore[arg-type]
    return out.getvalue()


def test_cpio_reads_what_we_write(tmp_path: Path) -> None:
    data = archive(sample(tmp_path / "t"))
    listing = subprocess.run(["cpio", "-tv"], input=data, capture_output=True, check=True).stdout.decode()
    lines = {line.split()[-1] if "->" not in line else "link": line for line in listing.splitlines()}
    assert lines["dev/console"].startswith("crw-------")
    assert lines["d/script"].startswith("-rwxr-xr-x")
    assert "root     root" in lines["d/file"]
    assert "link -> d/file" in lines["link"]


def test_cpio_is_the_same_whatever_order_files_were_made_in(tmp_path: Path) -> None:
    a, b = sample(tmp_path / "a"), tmp_path / "b"
    (b / "d").mkdir(parents=True)
    (b / "link").symlink_to("d/file")
    (b / "d/script").write_text("#!/bin/sh\n")
    (b / "d/script").chmod(0o755)
    (b / "d/file").write_bytes(b"12345")
    os.utime(b / "d/file", (1, 1))
    assert archive(a) == archive(b)
    assert b"d/file" not in archive(a, skip=("d",)).replace(b"d/file\0", b"", 0)[:200]


DEP = """kernel/a/virtio_blk.ko: kernel/v/virtio_ring.ko kernel/v/virtio.ko
kernel/v/virtio_ring.ko: kernel/v/virtio.ko
kernel/v/virtio.ko:
kernel/n/e1000-x.ko.xz:
"""


def test_modules_come_in_an_order_they_load_in() -> None:
    table = modules.dependencies(DEP)
    assert modules.closure(["virtio-blk", "e1000_x"], table) == ["virtio", "virtio_ring", "virtio_blk", "e1000_x"]


def test_built_in_modules_are_left_out_and_unknown_ones_named() -> None:
    table = modules.dependencies(DEP)
    assert modules.closure(["virtio_blk", "ext4"], table, ["kernel/v/virtio.ko", "kernel/fs/ext4.ko"]) == [
        "virtio_ring",
        "virtio_blk",
    ]
    with pytest.raises(BuildFailed, match="no module ipmi_si"):
        modules.closure(["ipmi_si"], table)


def test_grub_boot_sector_points_at_its_core() -> None:
    code = grub.boot_sector(bytes(512), 2048)
    assert len(code) == 440
    assert struct.unpack_from("<Q", code, 0x5C) == (2048,)
    assert code[0x64] == 0xFF
    assert code[0x66:0x68] == b"\x90\x90"


def test_grub_core_knows_its_own_blocks() -> None:
    core = grub.placed_core(bytes(1500), 2048)
    assert len(core) == 1536
    assert struct.unpack_from("<QHH", core, 500) == (2049, 2, 0x820)


def test_a_layer_is_found_whole_and_a_draft_of_a_dead_build_is_swept(tmp_path: Path) -> None:
    store = layers.LayerStore(tmp_path)
    with store.draft() as draft:
        (draft / "tree/f").write_text("x")
        kept = store.keep(draft, layers.Layer("k1", "root", "", "", {}))
    found = store.find("k1")
    assert found is not None
    assert found.content == kept.content
    assert store.sound(found)
    (store.root / ".draft-999999-1/tree").mkdir(parents=True)
    store.sweep()
    assert [p.name for p in store.root.iterdir()] == ["k1"]


@pytest.mark.parametrize("harm", ["edit", "cut", "remove", "add"])
def test_a_harmed_layer_is_noticed_and_dropped(tmp_path: Path, harm: str) -> None:
    store = layers.LayerStore(tmp_path)
    with store.draft() as draft:
        (draft / "tree/f").write_text("xyz")
        layer = store.keep(draft, layers.Layer("k1", "root", "", "", {}))
    file = store.tree("k1") / "f"
    match harm:
        case "edit":
            file.write_text("abc")
        case "cut":
            os.truncate(file, 1)
        case "remove":
            file.unlink()
        case "add":
            (store.tree("k1") / "g").touch()
    assert not store.sound(layer)
    assert store.find("k1") is None


def test_content_ignores_times_and_sees_modes(tmp_path: Path) -> None:
    def digest(name: str, mode: int, when: int) -> str:
        draft = tmp_path / name
        for top in ("tree", "hooks"):
            (draft / top).mkdir(parents=True)
        (draft / "tree/f").write_text("x")
        (draft / "tree/f").chmod(mode)
        os.utime(draft / "tree/f", (when, when))
        return layers.content(draft).digest

    assert digest("a", 0o644, 1) == digest("b", 0o644, 99)
    assert digest("c", 0o755, 1) != digest("d", 0o644, 1)


def test_prune_takes_the_longest_unused_first(tmp_path: Path) -> None:
    store = layers.LayerStore(tmp_path)
    for index, name in enumerate(("old", "new")):
        with store.draft() as draft:
            (draft / "tree/f").write_bytes(os.urandom(1 << 20))
            kept = store.keep(draft, layers.Layer(name, "root", "", "", {}))
        os.utime(store.root / name / "meta.json", (1000 + index, 1000 + index))
    assert prune.prune(tmp_path, 3 << 19) == kept.room
    assert [layer.key for layer in store.list()] == ["new"]


def test_what_the_cache_takes_is_counted_as_the_disk_does(tmp_path: Path) -> None:
    store = layers.LayerStore(tmp_path)
    with store.draft() as draft:
        (draft / "tree/log").write_bytes(os.urandom(1 << 20))
        os.link(draft / "tree/log", draft / "tree/again")
        with open(draft / "tree/sparse", "wb") as file:
            file.truncate(1 << 30)
        kept = store.keep(draft, layers.Layer("a", "root", "", "", {}))
    assert kept.size == (1 << 30) + (2 << 20)
    assert 1 << 20 <= kept.room < 2 << 20
    image = tmp_path / "images/ab/little.d"
    image.mkdir(parents=True)
    (image / "manifest").write_bytes(os.urandom(1 << 20))
    clone = tmp_path / "dib/source-repositories/tool_ab/objects"
    clone.mkdir(parents=True)
    (clone / "pack").write_bytes(os.urandom(1 << 20))
    (tmp_path / "dib/locks").mkdir()
    found = prune.totals(tmp_path)
    assert 1 << 20 <= found["sources"] < 2 << 20
    assert found["layers"] == kept.room
    assert 1 << 20 <= found["images"] < 2 << 20
    prune.prune(tmp_path, 0, keep_s=-1)
    assert sum(prune.totals(tmp_path).values()) == 0
    assert (tmp_path / "dib/locks").is_dir()


def test_nothing_is_pruned_under_a_running_build(tmp_path: Path) -> None:
    (tmp_path / "bases/ab12").mkdir(parents=True)
    (tmp_path / "bases/ab12/disk.raw").write_bytes(bytes(8192))
    os.utime(tmp_path / "bases/ab12", (1, 1))
    with locks.building(tmp_path, print), locks.building(tmp_path, print):
        assert prune.prune(tmp_path, 0) == -1
    assert prune.prune(tmp_path, 0) >= 8192
    assert not (tmp_path / "bases/ab12").exists()


def test_the_newest_kernel_of_a_ramdisk_is_the_one_of_the_highest_number(tmp_path: Path) -> None:
    boot = tmp_path / "t/boot"
    boot.mkdir(parents=True)
    for version in ("6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-8-amd64"):
        (boot / f"vmlinuz-{version}").write_text(version)
    spec = assemble.Spec("r", "ramdisk", "", [], "", [], {}, {})
    assemble.make_ramdisk(spec, tmp_path / "t", tmp_path, 7)
    assert (tmp_path / "kernel").read_text() == "6.1.0-10-amd64"


STATUS = """Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2
Maintainer: M <m@example.org>

Package: gone
Status: deinstall ok config-files
Version: 1

Package: libx
Status: install ok installed
Source: x (1.0)
Architecture: amd64
Version: 1.0+b1
Description: text
 Package: not a field
"""


def test_packages_and_their_bill_of_materials(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    found = inventory.packages(tmp_path / "status")
    assert [(p.name, p.version, p.source) for p in found] == [("bash", "5.2", "bash"), ("libx", "1.0+b1", "x")]
    text = sbom.cyclonedx("demo", found, 1735689600)
    assert text == sbom.cyclonedx("demo", found, 1735689600)
    doc = json.loads(text)
    assert doc["specVersion"] == "1.5"
    assert doc["components"][1]["purl"] == "pkg:deb/debian/libx@1.0%2Bb1?arch=amd64"


def test_what_differs_between_builds(tmp_path: Path) -> None:
    for name, version, size in (("a", "1", 3), ("b", "2", 4)):
        (tmp_path / name).mkdir()
        packages = [{"name": "bash", "arch": "amd64", "version": version}]
        (tmp_path / name / "packages.json").write_text(json.dumps(packages))
        (tmp_path / name / "files.txt").write_text(f"100644 0:0 {size} /etc/with space\tabc\n100644 0:0 1 /same\tx\n")
    found = compare.builds(tmp_path / "a", tmp_path / "b")
    assert found.lines() == [
        "~ package bash:amd64 1 -> 2",
        "~ file /etc/with space 100644 0:0 3 abc -> 100644 0:0 4 abc",
    ]
    assert not compare.builds(tmp_path / "a", tmp_path / "a")


def test_zstd_frames_are_independent_and_bounded() -> None:
    frame = zst.compress(b"abc" * 1000)
    assert zst.decompress(frame + b"what follows", 3000) == b"abc" * 1000
    assert subprocess.run(["zstd", "-dc"], input=frame * 2, capture_output=True, check=True).stdout == b"abc" * 2000
    with pytest.raises(BadImage):
        zst.decompress(frame, 100)
    with pytest.raises(BadImage):
        zst.decompress(frame[:-8], 3000)
