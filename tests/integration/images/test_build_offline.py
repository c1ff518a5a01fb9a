"""Whole builds without a network: the operating system is this machine's shell and its libraries.

Needs root (namespaces, overlayfs), sgdisk, e2fsprogs, mtools, grub, qemu-img.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from processes import running

from baremetal.images import builder, chunks, errors, manifest
from baremetal.images.definition import Definition, Disk
from baremetal.images.layers import LayerStore

pytestmark = pytest.mark.integration
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"


def definition(*elements: str, **changes: object) -> Definition:
    base = Definition("little", ("host-os", *elements), kind="tree", disk=Disk(extra_bytes=8 << 20))
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def options(cache: Path, elements: Path = ELEMENTS, **changes: object) -> builder.Options:
    base = builder.Options(cache=cache, elements_path=(elements,), offline=True, epoch="1735689600")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture
def elements(tmp_path: Path) -> Path:
    target = tmp_path / "elements"
    shutil.copytree(ELEMENTS, target)
    return target


def tree_of(result: builder.BuildResult) -> dict[str, str]:
    from baremetal.images import compare

    return compare.read_files(result.directory / "files.txt")


def mounts(below: Path) -> list[str]:
    """Mounts of this machine that have to do with a directory; other tests make and end their own."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(below) in line]


def test_a_disk_comes_out_and_a_second_build_does_nothing(tmp_path: Path) -> None:
    first = builder.build(definition("greet", kind="disk"), options(tmp_path / "c"))
    assert not first.cached
    assert first.path.suffix == ".qcow2"
    files = tree_of(first)
    assert "/etc/greeting" in files
    assert files["/etc/conf.d/link"].endswith("-> ../greeting")
    assert "/etc/resolv.conf.ORIG" not in files
    assert files["/var/log/when.log"].split()[2] == "0"  # logs are cut at the end
    second = builder.build(definition("greet", kind="disk"), options(tmp_path / "c"))
    assert second.cached
    assert second.id == first.id
    assert mounts(tmp_path) == []
    assert not list((tmp_path / "c/work").iterdir())


def test_the_file_system_on_the_disk_is_sound_and_holds_the_tree(tmp_path: Path) -> None:
    built = builder.build(definition("greet", kind="disk", formats=("raw",)), options(tmp_path / "c"))
    where = f"{built.path}?offset={34 << 20}"
    subprocess.run(["e2fsck", "-fn", where], check=True, capture_output=True)
    listing = subprocess.run(["debugfs", "-R", "cat /etc/greeting", where], check=True, capture_output=True).stdout
    assert listing == b"hello\nname=nobody\n"
    table = subprocess.run(["sgdisk", "-p", str(built.path)], check=True, capture_output=True, text=True).stdout
    assert [line.split()[5] for line in table.splitlines() if line.strip()[:1].isdigit()] == ["EF02", "EF00", "8304"]
    subprocess.run(["sgdisk", "-v", str(built.path)], check=True, capture_output=True)


def test_two_places_give_the_same_bytes(tmp_path: Path) -> None:
    a = builder.build(definition("greet", kind="disk", formats=("raw", "qcow2")), options(tmp_path / "a"))
    b = builder.build(definition("greet", kind="disk", formats=("raw", "qcow2")), options(tmp_path / "some/where/else"))
    for name in ("little.raw", "little.qcow2", "files.txt", "sbom.cdx.json"):
        assert (a.directory / name).read_bytes() == (b.directory / name).read_bytes(), name


def test_a_changed_script_runs_again_and_nothing_below_it(tmp_path: Path, elements: Path) -> None:
    builder.build(definition("greet"), options(tmp_path / "c", elements))
    script = elements / "greet/post-install.d/50-after"
    script.write_text(script.read_text() + "echo more >> /etc/conf.d/after\n")
    rows = builder.explain(definition("greet"), options(tmp_path / "c", elements))
    cached = {row["step"]: row["cached"] for row in rows}
    assert cached["install"] is True
    assert cached["post-install"] is False
    why = next(str(row["why"]) for row in rows if row["step"] == "post-install")
    assert "changed: post-install.d/50-after" in why
    again = builder.build(definition("greet"), options(tmp_path / "c", elements))
    assert not again.cached


def test_a_variable_a_script_names_is_part_of_its_layer(tmp_path: Path) -> None:
    one = builder.build(definition("greet"), options(tmp_path / "c"))
    other = builder.build(definition("greet", env={"DIB_GREET_NAME": "rack"}), options(tmp_path / "c"))
    unrelated = builder.build(definition("greet", env={"DIB_SOMETHING": "else"}), options(tmp_path / "c"))
    assert other.id != one.id
    assert unrelated.id == one.id


def test_a_failing_script_is_named_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(errors.BuildFailed) as caught:
        builder.build(definition("boom"), options(tmp_path / "c"))
    assert "boom" in caught.value.brief
    assert "install.d/60-boom" in caught.value.brief
    assert "the reason is on this line" in caught.value.detail
    assert "--shell-on-failure" in caught.value.fix


def test_a_hanging_script_is_ended_and_named(tmp_path: Path) -> None:
    builder.build(definition("slow"), options(tmp_path / "c", until="extra-data"))  # not to be cut short below
    with pytest.raises(errors.BuildFailed, match=r"slow.*60-slow.*within 3 s"):
        builder.build(definition("slow"), options(tmp_path / "c", phase_timeout_s=3.0))


def test_a_process_left_behind_is_ended_and_told(tmp_path: Path) -> None:
    result = builder.build(definition("lingers"), options(tmp_path / "c"))
    assert any("sleep 611" in warning for warning in result.warnings)
    assert not running("sleep 611")


def test_a_damaged_layer_is_noticed_and_built_again(tmp_path: Path) -> None:
    cache = tmp_path / "c"
    first = builder.build(definition("greet"), options(cache))
    store = LayerStore(cache)
    layer = next(layer for layer in store.list() if layer.phase == "install")
    (store.tree(layer.key) / "etc/greeting").write_text("tampered with")
    shutil.rmtree(first.directory)
    again = builder.build(definition("greet"), options(cache))
    assert any("damaged" in warning for warning in again.warnings)
    assert tree_of(again)["/etc/greeting"].split()[2] == "18"


def test_a_cut_image_is_built_again(tmp_path: Path) -> None:
    first = builder.build(definition("greet", kind="disk"), options(tmp_path / "c"))
    os.truncate(first.path, 4096)
    again = builder.build(definition("greet", kind="disk"), options(tmp_path / "c"))
    assert not again.cached
    assert again.path.stat().st_size > 4096
    whole = again.path.read_bytes()
    with open(again.path, "r+b") as file:  # the same size, another content
        file.seek(-10, os.SEEK_END)
        file.write(b"0123456789")
    once_more = builder.build(definition("greet", kind="disk"), options(tmp_path / "c"))
    assert not once_more.cached
    assert once_more.path.read_bytes() == whole


@pytest.mark.parametrize("harm", ["{", "[]", '{"key": 1}', ""])
def test_notes_of_a_layer_that_cannot_be_read_are_made_anew(tmp_path: Path, harm: str) -> None:
    first = builder.build(definition("greet"), options(tmp_path))
    for path in (tmp_path / "layers").glob("*/meta.json"):
        path.write_text(harm)
    (first.directory / "meta.json").write_text(harm)
    again = builder.build(definition("greet"), options(tmp_path))
    assert not again.cached
    assert tree_of(again) == tree_of(first)


def test_a_tree_larger_than_its_disk_is_refused_with_the_size_it_needs(tmp_path: Path) -> None:
    small = definition("greet", kind="disk", disk=Disk(size_bytes=48 << 20))
    with pytest.raises(errors.DiskTooSmall, match=r"the tree needs \d+ MiB, the disk is 48 MiB"):
        builder.build(small, options(tmp_path / "c"))


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {here!r})
import test_build_offline as t
from baremetal.images import builder
def say(step, script, fraction):
    print(script, flush=True)
builder.build(t.definition("greet", "slow"), t.options(Path({cache!r})), say)
"""


def test_killed_it_leaves_nothing_running_and_the_next_build_goes_on(tmp_path: Path) -> None:
    cache = tmp_path / "c"
    code = KILLED.format(here=str(Path(__file__).parent), cache=str(cache))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "60-slow":
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        left = running(str(cache))
        if not left:
            break
        time.sleep(0.1)
    assert not left
    assert str(cache) not in Path("/proc/self/mountinfo").read_text()
    rows = builder.explain(definition("greet"), options(cache))
    assert rows[0]["cached"] is True
    result = builder.build(definition("greet"), options(cache))
    assert result.path.exists()
    assert not list((cache / "layers").glob(".draft-*"))


def test_two_builds_at_once_make_one_image(tmp_path: Path) -> None:
    code = KILLED.replace('"greet", "slow"', '"greet"').format(
        here=str(Path(__file__).parent), cache=str(tmp_path / "c")
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) for _ in "ab"]
    said = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("50-greet" in text for text in said) == [False, True]


CHANGES = [  # of the definition                              what `plan` says of the image, all layers being there
    ({}, "cached"),
    ({"formats": ("raw",)}, "changed: disk: formats"),
    ({"disk": Disk(size_bytes=1 << 30)}, "changed: disk: extra_bytes; changed: disk: size_bytes"),
    ({"properties": {"use": "web"}}, "changed: properties"),
]


def test_a_plan_tells_of_the_image_too(tmp_path: Path) -> None:
    wanted = definition("greet")
    rows = builder.explain(wanted, options(tmp_path))
    assert [(row["step"], row["why"]) for row in rows][-1] == ("image", "after root")
    builder.build(wanted, options(tmp_path))
    for changes, why in CHANGES:
        rows = builder.explain(replace(wanted, **changes), options(tmp_path))
        assert {row["step"] for row in rows if not row["cached"]} == ({"image"} if changes else set())
        assert rows[-1]["why"] == why


def test_until_stops_after_a_phase(tmp_path: Path) -> None:
    result = builder.build(definition("greet", "boom"), options(tmp_path / "c", until="pre-install"))
    assert result.kind == "partial"


@pytest.mark.parametrize(("kind", "suffix"), [("tar", "tar"), ("squashfs", "squashfs"), ("tgz", "tgz")])
def test_other_formats(tmp_path: Path, kind: str, suffix: str) -> None:
    result = builder.build(definition("greet", formats=(kind,)), options(tmp_path / "c"))
    assert [path.suffix for path in result.files] == [f".{suffix}"]


def test_raw_zst_is_the_wire_format_with_its_manifest(tmp_path: Path) -> None:
    built = builder.build(definition("greet", kind="disk", formats=("raw", "raw.zst")), options(tmp_path / "c"))
    assert {path.name for path in built.files} == {"little.raw", "little.raw.zst", "little.raw.zst.manifest.json"}
    assert built.path.name == "little.raw"
    packed = built.directory / "little.raw.zst"
    text = manifest.from_bytes(Path(f"{packed}.manifest.json").read_bytes())
    assert text.id == f"sha256:{hashlib.sha256(packed.read_bytes()).hexdigest()}"
    chunks.unpack(packed, text.chunks, text.raw_size, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == built.path.read_bytes()
    plain = subprocess.run(["zstd", "-dc", str(packed)], capture_output=True, check=True).stdout
    assert plain == built.path.read_bytes()


def test_a_ramdisk_is_a_kernel_and_a_cpio(tmp_path: Path) -> None:
    result = builder.build(definition("greet", kind="ramdisk"), options(tmp_path / "c"))
    assert (result.directory / "kernel").read_text() == "not a kernel\n"
    packed = (result.directory / "initrd").read_bytes()
    plain = subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True).stdout
    names = subprocess.run(["cpio", "-t"], input=plain, capture_output=True, check=True).stdout.decode().split()
    assert {"dev/console", "dev/null", "etc/greeting"} <= set(names)
    assert not [name for name in names if name.startswith("boot")]
    subjects = json.loads((result.directory / "provenance.json").read_text())["subject"]
    told = {subject["name"]: subject["digest"]["sha256"] for subject in subjects}
    assert told["initrd"] == hashlib.sha256(packed).hexdigest()
    bill = json.loads((result.directory / "sbom.cdx.json").read_text())
    assert [part["name"] for part in bill["components"]] == ["host-os"]


BOOT_OF_ITS_OWN = """
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: LABEL
    partitions:
      - name: boot
        size: 64MiB
        flags: [ boot ]
        mkfs: {type: ext4, mount: {mount_point: /boot, fstab: {options: defaults, fsck-passno: 2}}}
      - name: root
        size: 100%
        mkfs: {type: ext4, mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}
"""


@pytest.mark.parametrize("label", ["gpt", "mbr"])
def test_a_layout_from_block_device_yaml(tmp_path: Path, label: str) -> None:
    env = {"DIB_BLOCK_DEVICE_CONFIG": BOOT_OF_ITS_OWN.replace("LABEL", label)}
    wanted = definition("greet", kind="disk", formats=("raw",), env=env, disk=Disk(layout="elements"))
    built = builder.build(wanted, options(tmp_path / "c"))
    boot, root = f"{built.path}?offset={1 << 20}", f"{built.path}?offset={65 << 20}"
    for where in (boot, root):
        subprocess.run(["e2fsck", "-fn", where], check=True, capture_output=True)
    listing = subprocess.run(["debugfs", "-R", "ls -p /", boot], capture_output=True, text=True, check=True).stdout
    assert "/vmlinuz-1.0-test/" in listing
    listing = subprocess.run(["debugfs", "-R", "ls -p /boot", root], capture_output=True, text=True, check=True).stdout
    assert "vmlinuz" not in listing
    fstab = subprocess.run(["debugfs", "-R", "cat /etc/fstab", root], capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in fstab.splitlines()] == ["/", "/boot"]


SWAP = """
      - name: swap
        size: 32MiB
        mkfs: {type: swap, label: more, mount: {mount_point: swap, fstab: {options: sw}}}
"""


def test_swap_is_made_and_the_same_each_time(tmp_path: Path) -> None:
    yaml = BOOT_OF_ITS_OWN.replace("LABEL", "mbr").replace("      - name: root", f"{SWAP[1:]}      - name: root")
    wanted = definition(
        "greet", kind="disk", formats=("raw",), env={"DIB_BLOCK_DEVICE_CONFIG": yaml}, disk=Disk(layout="elements")
    )
    built = builder.build(wanted, options(tmp_path / "a"))
    again = builder.build(wanted, options(tmp_path / "b"))
    assert built.path.read_bytes() == again.path.read_bytes()
    found = subprocess.run(
        ["blkid", "-p", "-o", "export", "-O", str(65 << 20), "-S", str(32 << 20), str(built.path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"TYPE=swap", "LABEL=more"} <= set(found)
    with open(built.path, "rb") as file:
        file.seek((65 << 20) + 1024)  # version and last page, as the kernel reads them (include/linux/swap.h)
        assert struct.unpack("<II", file.read(8)) == (1, (32 << 20) // 4096 - 1)
    root = f"{built.path}?offset={97 << 20}"
    fstab = subprocess.run(["debugfs", "-R", "cat /etc/fstab", root], capture_output=True, text=True, check=True).stdout
    uuid = next(word.partition("=")[2] for word in found if word.startswith("UUID="))
    assert f"UUID={uuid} none swap sw 0 0" in fstab.splitlines()


MKFS = [  # options of mkfs, what the file system says of itself
    ("-m 3 -i 8192 -O ^64bit -O ^has_journal -E stride=4", {"RAID stride": "4", "Reserved block count": "3%"}),
    ("-J size=32 -O ^metadata_csum", {"Total journal size": "32M"}),
]


@pytest.mark.parametrize(("text", "told"), MKFS, ids=[row[0] for row in MKFS])
def test_options_of_mkfs_are_kept_to_and_the_file_system_is_sound(
    tmp_path: Path, text: str, told: dict[str, str]
) -> None:
    wanted = definition("greet", kind="disk", formats=("raw",), disk=Disk(mkfs=text, extra_bytes=8 << 20))
    built = builder.build(wanted, options(tmp_path))
    where = f"{built.path}?offset={34 << 20}"
    subprocess.run(["e2fsck", "-fn", where], check=True, capture_output=True)
    said = subprocess.run(["dumpe2fs", "-h", where], check=True, capture_output=True, text=True).stdout
    found = {name: value.strip() for name, _, value in (line.partition(":") for line in said.splitlines())}
    share = round(100 * int(found["Reserved block count"]) / int(found["Block count"]))
    found["Reserved block count"] = f"{share}%"
    assert {name: found.get(name) for name in told} == told
    assert ("64bit" in found["Filesystem features"]) == ("^64bit" not in text)
    assert ("metadata_csum" in found["Filesystem features"]) == ("^metadata_csum" not in text)
    listing = subprocess.run(["debugfs", "-R", "cat /etc/greeting", where], check=True, capture_output=True).stdout
    assert listing == b"hello\nname=nobody\n"


def test_an_xfs_root_is_sound_and_the_same_each_time(tmp_path: Path) -> None:
    xfs = Disk(filesystem="xfs", mkfs="-m reflink=0 -i size=1024")
    wanted = definition("greet", kind="disk", formats=("raw",), disk=xfs)
    built = builder.build(wanted, options(tmp_path / "a"))
    again = builder.build(wanted, options(tmp_path / "b"))
    assert built.path.read_bytes() == again.path.read_bytes()
    start = 34
    part = tmp_path / "part"
    with open(built.path, "rb") as disk, open(part, "wb") as out:
        disk.seek(start << 20)
        shutil.copyfileobj(disk, out, 1 << 20)
    os.truncate(part, (built.path.stat().st_size - (start << 20) - 34 * 512) // 4096 * 4096)
    subprocess.run(["xfs_repair", "-n", "-f", str(part)], check=True, capture_output=True)
    asked = "sb 0\nprint inodesize\npath /etc/greeting\nprint core.size core.mode core.mtime.sec\n"
    asked += "path /tmp\nprint core.mode\n"
    said = subprocess.run(["xfs_db", "-r", str(part)], input=asked, capture_output=True, text=True, check=True).stdout
    assert "inodesize = 1024" in said
    assert "core.size = 18" in said
    assert "core.mode = 0100644" in said
    assert "Wed Jan  1 00:00:00 2025" in said
    assert "core.mode = 041777" in said


def test_owners_modes_links_and_attributes_reach_the_disk(tmp_path: Path, elements: Path) -> None:
    script = elements / "greet/post-install.d/60-odd"
    script.write_text(
        "#!/bin/bash\nset -eu\ncd /home\ntouch 'with space' 'quo\"te' a\nln a b\n"
        "chmod 4755 a\nmkdir -p deep/er; chmod 1777 deep\n"
    )
    script.chmod(0o755)
    odd = elements / "greet/cleanup.d/60-owners"
    odd.parent.mkdir()
    odd.write_text(
        '#!/usr/bin/env python3\nimport os\nt=os.environ["TARGET_ROOT"]+"/home/"\nos.chown(t+"with space",1000,1001)\n'
        'os.setxattr(t+"with space","user.note",b"kept")\nos.utime(t+"deep/er",(5,5))\nos.mkfifo(t+"pipe")\n'
    )
    odd.chmod(0o755)
    built = builder.build(definition("greet", kind="disk", formats=("raw",)), options(tmp_path / "c", elements))
    where = f"{built.path}?offset={34 << 20}"
    subprocess.run(["e2fsck", "-fn", where], check=True, capture_output=True)

    def stat(name: str) -> str:
        return subprocess.run(["debugfs", "-R", f'stat "{name}"', where], capture_output=True, text=True).stdout

    assert "User:  1000   Group:  1001" in stat("/home/with space")
    assert "user.note" in stat("/home/with space")
    assert "Mode:  04755" in stat("/home/a")
    assert "Links: 2" in stat("/home/a")
    assert "Mode:  01777" in stat("/home/deep")
    assert "Type: FIFO" in stat("/home/pipe")
    assert "Type: regular" in stat('/home/quo""te')


def test_a_lock_file_is_held_to(tmp_path: Path) -> None:
    lock = tmp_path / "little.lock"
    lock.write_text("epoch 1735689600\nhost-os 1.0 amd64\n")
    builder.build(definition("greet", lock=lock), options(tmp_path / "c"))
    lock.write_text("epoch 1735689600\nhost-os 1.1 amd64\nvim 9 amd64\n")
    with pytest.raises(errors.BuildFailed, match="not what its lock file says") as caught:
        builder.build(definition("greet", lock=lock), options(tmp_path / "c"))
    assert caught.value.detail.splitlines() == ["host-os is 1.0, locked 1.1", "vim 9 is missing"]
