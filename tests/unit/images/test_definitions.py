"""Definitions, disk-image-create's call shape, lock files, mirrors: text in, facts out."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest

from baremetal.images import catalog, classic, lockfile, mirror
from baremetal.images.definition import from_document, load, with_options
from baremetal.images.errors import BadDefinition, ImageNotFound, NoMirror
from baremetal.images.sizes import parse_size

WHOLE = """
description = "d"
elements = ["debian-base", "ssh"]
formats = ["qcow2", "raw"]
packages = ["vim"]
[env]
DIB_X = "1"
DIB_FLAG = true
[disk]
size = "1.5GiB"
[options.kernel]
choices = ["cloud", "full"]
default = "cloud"
env = "DIB_KERNEL"
[options.count]
type = "integer"
default = 3
[options.fast]
type = "boolean"
default = false
"""

BAD = [  # text                                                  what the error says
    ("elements = []", "no elements"),
    ('element = ["x"]', "unknown key 'element'"),
    ('elements = "x"', "not a list of strings"),
    ('elements = ["x"]\nkind = "floppy"', "kind is one of"),
    ('elements = ["x"]\nformats = ["vmdk"]', "unknown format 'vmdk'"),
    ('elements = ["x"]\n[disk]\nsize = "big"', "bad size 'big'"),
    ('elements = ["x"]\n[disk]\nfilesystem = "vfat"', "filesystem is one of"),
    ('elements = ["x"]\n[env]\n"A B" = "1"', "bad variable name"),
    ('elements = ["x"]\nname = "../up"', "bad image name"),
    ('elements = ["x"]\n[env]\nA = [1]', r"env: A is \[1\]"),
    ('elements = ["x"]\n[env]\nPATH = "/x"', "PATH is set by the build itself"),
    ('elements = ["x"]\npackages = ["--force-yes"]', "'--force-yes' is no name of a package"),
    ('elements = ["x"]\n[options.n]\ntype = "integer"\ndefault = "many"', "is an integer"),
]


def parse(text: str):  # type: ignore[no-untyped-def]
    return from_document(tomllib.loads(text), name="t", where="t.toml")


def test_a_whole_definition() -> None:
    found = parse(WHOLE)
    assert found.disk.size_bytes == 3 << 29
    assert found.env == {"DIB_X": "1", "DIB_FLAG": "1"}
    assert [option.name for option in found.options] == ["kernel", "count", "fast"]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(BadDefinition, match=said):
        parse(text)


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadDefinition) as caught:
        parse('elments = ["x"]')
    assert caught.value.fix == "did you mean elements?"


def test_options_become_variables() -> None:
    found = with_options(parse(WHOLE), {"kernel": "full", "fast": "yes"})
    assert found.env["DIB_KERNEL"] == "full"
    assert found.env["DIB_COUNT"] == "3"
    assert found.env["DIB_FAST"] == "1"


@pytest.mark.parametrize("chosen", [{"kernel": "tiny"}, {"count": "x"}, {"fast": "perhaps"}, {"kernal": "full"}])
def test_options_hold_their_types(chosen: dict[str, str]) -> None:
    with pytest.raises(BadDefinition):
        with_options(parse(WHOLE), chosen)


def test_every_definition_we_ship_loads() -> None:
    for path in catalog.definitions().values():
        with_options(load(path), {})


def test_a_definition_not_found_names_the_nearest() -> None:
    with pytest.raises(ImageNotFound) as caught:
        catalog.find("dem")
    assert "demo" in caught.value.fix


SIZES = [("512MiB", 512 << 20), ("2G", 2 << 30), ("1.5 GiB", 3 << 29), ("4096", 4096), ("1kb", 1024)]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_the_classic_call() -> None:
    call = classic.Call(("debian", "vm", "nova-compute"), output="out/Compute Image.qcow2", packages=("tcpdump",))
    found = classic.definition(call, {"DIB_RELEASE": "bookworm", "PATH": "/bin", "DIB_IMAGE_SIZE": "2"})
    assert found.elements == ("base", "debian", "vm", "nova-compute")
    assert found.name == "compute-image"
    assert found.env == {"DIB_RELEASE": "bookworm", "DIB_IMAGE_SIZE": "2"}
    assert found.disk.size_bytes == 2 << 30
    assert found.disk.root_label == "cloudimg-rootfs"


def test_formats_only_the_original_writes_are_named() -> None:
    with pytest.raises(BadDefinition) as caught:
        classic.definition(classic.Call(("debian",), types=("vhd",)), {})
    assert "--engine dib" in caught.value.fix


def test_a_lock_goes_round(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text("# note\nepoch 1735689600\nbash 5.2.15-2+b7 amd64\ntzdata 2024a all\n")
    epoch, pins = lockfile.read(path)
    assert epoch == 1735689600
    assert pins == {"bash": "5.2.15-2+b7", "tzdata": "2024a"}
    assert "Package: bash\nPin: version 5.2.15-2+b7\nPin-Priority: 1001\n" in lockfile.preferences(pins)
    said = lockfile.departures(pins, {"bash": "5.2.16", "vim": "9"})
    assert said == ["bash is 5.2.16, locked 5.2.15-2+b7", "tzdata 2024a is missing", "vim 9 is not in the lock"]


def test_a_package_with_other_content_than_locked_is_named(tmp_path: Path) -> None:
    debs = tmp_path / "dib/apt/debian"
    debs.mkdir(parents=True)
    (debs / "vim_2%3a9.0_amd64.deb").write_bytes(b"package")
    digest = hashlib.sha256(b"package").hexdigest()
    path = tmp_path / "x.lock"
    path.write_text(f"epoch 1\nvim 2:9.0 amd64 {digest}\nbash 5 amd64 {'0' * 64}\n")
    assert lockfile.other_files(path, tmp_path) == []  # bash is not in the cache: apt checks what it fetches
    (debs / "vim_2%3a9.0_amd64.deb").write_bytes(b"another")
    assert "vim 2:9.0 is another file than the one locked" in lockfile.other_files(path, tmp_path)[0]


def test_a_broken_lock_says_which_line(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text("epoch 1\nbash\n")
    with pytest.raises(BadDefinition, match=r"x\.lock:2"):
        lockfile.read(path)


def test_the_mirror_is_read_from_both_formats(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("# deb http://no/debian bookworm main\n")
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(
        "Types: deb deb-src\nURIs: http://near.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\n"
    )
    (parts / "sec.list").write_text("deb [signed-by=/k arch=amd64] http://near.example/sec bookworm-security main\n")
    (parts / "other.list").write_text("deb https://packages.example/apt cloud-sdk-bookworm main\n")
    found = mirror.from_machine({}, etc=tmp_path)
    assert found == mirror.Mirror("http://near.example/debian", "http://near.example/sec")


def test_the_environment_wins_over_apt(tmp_path: Path) -> None:
    found = mirror.from_machine({"DIB_DISTRIBUTION_MIRROR": "http://mine/debian/"}, etc=tmp_path)
    assert found.archive == "http://mine/debian"


def test_a_silent_mirror_is_told_and_what_was_seen_is_used(tmp_path: Path) -> None:
    nowhere = mirror.Mirror("http://127.0.0.1:1/debian", "http://127.0.0.1:1/sec")
    first = mirror.snapshot(nowhere, "bookworm", tmp_path)
    assert "does not answer" in first.stale
    memory = tmp_path / "mirrors"
    memory.mkdir()
    import hashlib
    import json

    name = hashlib.sha256(json.dumps(nowhere.suites("bookworm")).encode()).hexdigest()[:16]
    (memory / f"{name}.json").write_text(json.dumps({"digest": "d", "seen": 1.0, "epoch": 7, "stale": ""}))
    again = mirror.snapshot(nowhere, "bookworm", tmp_path)
    assert again.digest == "d"
    assert "does not answer" in again.stale
    assert mirror.snapshot(nowhere, "bookworm", tmp_path, now=2.0).stale == ""


def test_a_vendors_repository_is_not_the_archive(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "a.list").write_text("deb http://vendor.example/linux/debian bookworm stable\n")
    (parts / "b.list").write_text(
        "deb http://near.example/d bookworm main\ndeb http://near.example/d bookworm-updates main\n"
    )
    assert mirror.from_machine({}, etc=tmp_path) == mirror.Mirror("http://near.example/d", "")


def test_without_a_mirror_the_script_that_needs_one_is_named(tmp_path: Path) -> None:
    script = tmp_path / "10-base"
    script.write_text("get $DIB_DISTRIBUTION_MIRROR\n")
    nowhere = mirror.from_machine({}, etc=tmp_path)
    assert nowhere.environment() == {}
    with pytest.raises(NoMirror, match="10-base needs a Debian mirror") as caught:
        mirror.required(nowhere, [script])
    assert "DIB_DISTRIBUTION_MIRROR" in caught.value.fix
    script.write_text("unpack a tarball\n")
    mirror.required(nowhere, [script])
