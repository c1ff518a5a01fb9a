"""Bytes that changed without a new date: when that is noticed, and what is removed then."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from baremetal.images import bases, layers, locks, packagefiles, qcow2write, rereading, results, verify

MIB = 1 << 20
WORDS = b"some words"


@dataclass(frozen=True)
class Kept:
    """One thing in a cache: a file of it, whether it passes for sound, and how to say when it was read last (s)."""

    file: Path
    sound: Callable[[], bool]
    noted: Callable[[float], None]


def by_marker(thing: Path) -> Callable[[float], None]:
    return lambda when: os.utime(rereading.marker(thing), (when, when))


def a_layer(cache: Path) -> Kept:
    store = layers.LayerStore(cache)
    with store.draft() as draft:
        (draft / "tree/f").write_bytes(WORDS)
        layer = store.keep(draft, layers.Layer("ab", "root", "", "", {}, image="web"))
    return Kept(store.tree("ab") / "f", lambda: store.sound(layer), by_marker(store.root / "ab"))


def a_base(cache: Path) -> Kept:
    def make(disk: Path) -> None:
        with open(disk, "wb") as file:
            file.write(WORDS)
            file.truncate(8 * MIB)

    (cache / "bases").mkdir()
    base = bases.obtain(cache / "bases", "ab", "web", make)
    return Kept(base.disk, base.sound, by_marker(base.disk))


def clusters(cache: Path) -> Kept:
    disk = a_base(cache).file
    kept = qcow2write.frames_of(disk, MIB, "zstd")
    whole = kept.data.read_bytes()

    def trusted() -> bool:
        return kept.data.read_bytes() == whole or qcow2write.frames_of(disk, MIB, "zstd").data.read_bytes() != whole

    return Kept(kept.data, trusted, by_marker(kept.data))


def an_image(cache: Path) -> Kept:
    place = cache / "images/ab"
    place.mkdir(parents=True)
    (place / "web.qcow2").write_bytes(WORDS)
    meta: dict[str, object] = {"name": "web", "id": "ab", "kind": "disk", "steps": []}
    meta |= results.described(place, results.digests(place))
    (place / "meta.json").write_text(json.dumps(meta))
    rereading.was_read(place)
    return Kept(place / "web.qcow2", lambda: results.load_result(place) is not None, by_marker(place))


def a_package(cache: Path) -> Kept:
    file = cache / "dib/apt/debian/vim_1_amd64.deb"
    file.parent.mkdir(parents=True)
    file.write_bytes(WORDS)
    packagefiles.look(cache)

    def noted(when: float) -> None:
        ledger = cache / packagefiles.LEDGER
        ledger.write_text(
            json.dumps({name: [digest, when] for name, (digest, _) in json.loads(ledger.read_text()).items()})
        )

    return Kept(file, lambda: packagefiles.look(cache) == [], noted)


THINGS = {"layer": a_layer, "base": a_base, "clusters": clusters, "image": an_image, "package": a_package}


def goes_bad(file: Path) -> None:
    """One byte becomes another; size and date stay."""
    before = file.stat()
    with open(file, "r+b") as data:
        byte = data.read(1)
        data.seek(0)
        data.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("kind", THINGS)
def test_an_edit_that_put_the_date_back_is_noticed_at_once(tmp_path: Path, kind: str) -> None:
    kept = THINGS[kind](tmp_path)
    assert kept.sound()
    goes_bad(kept.file)
    assert not kept.sound()


@pytest.mark.parametrize("kind", THINGS)
def test_bytes_that_rot_in_silence_are_noticed_after_a_week(tmp_path: Path, kind: str) -> None:
    kept = THINGS[kind](tmp_path)
    goes_bad(kept.file)
    kept.noted(time.time())  # as if nothing but the disk had changed them, later
    assert kept.sound()
    kept.noted(time.time() - rereading.AGAIN_S - 60)
    assert not kept.sound()


@pytest.mark.parametrize("kind", THINGS)
def test_a_thing_that_was_copied_or_read_long_ago_is_read_once(tmp_path: Path, kind: str) -> None:
    kept = THINGS[kind](tmp_path)
    kept.noted(1000.0)
    assert kept.sound()
    goes_bad(kept.file)
    kept.noted(time.time())
    assert kept.sound()


@pytest.mark.parametrize("kind", THINGS)
def test_verify_reads_all_and_removes_what_is_bad(tmp_path: Path, kind: str) -> None:
    kept = THINGS[kind](tmp_path)
    assert verify.verify(tmp_path, lambda *_: None) == []
    goes_bad(kept.file)
    kept.noted(time.time())
    found = verify.verify(tmp_path, lambda *_: None)
    assert found is not None
    assert [one.kind for one in found] == [kind]
    assert not kept.file.exists()
    assert verify.verify(tmp_path, lambda *_: None) == []


def test_a_layer_without_notes_is_removed(tmp_path: Path) -> None:
    a_layer(tmp_path)
    (tmp_path / "layers/ab/meta.json").write_text("{")
    assert verify.verify(tmp_path, lambda *_: None) == [verify.Damaged("layer", "ab")]
    assert not (tmp_path / "layers/ab").exists()


def test_nothing_is_removed_under_a_running_build(tmp_path: Path) -> None:
    kept = a_layer(tmp_path)
    goes_bad(kept.file)
    with locks.building(tmp_path, print):
        assert verify.verify(tmp_path, lambda *_: None) is None
    assert kept.file.exists()


def test_a_build_says_that_it_waits_for_the_cache_to_be_read(tmp_path: Path) -> None:
    said: list[str] = []

    def a_build() -> None:
        with locks.building(tmp_path, said.append):
            said.append("builds")

    build = threading.Thread(target=a_build)
    with locks.alone(tmp_path) as nobody_builds:
        assert nobody_builds
        build.start()
        while not said:
            time.sleep(0.01)
        assert said == ["wait for the cache to be looked through"]
    build.join(10)
    assert said[1:] == ["builds"]
