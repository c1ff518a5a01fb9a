"""The image store, and reading disk images nobody trusts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baremetal.images import chunks, manifest, qcow2
from baremetal.images.errors import BadImage, ImageCorrupt, ImageInUse, ImageNotFound
from baremetal.images.store import ImageStore

MIB = 1 << 20


def raw_disk(path: Path, size: int = 13 * MIB, seed: int = 1) -> Path:
    """A sparse raw disk: boot signature, something at 5 MiB, something near the end."""
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(440)
        file.write(struct.pack("<I", seed) + bytes(66) + b"\x55\xaa")
        file.seek(5 * MIB)
        file.write(os.urandom(4096) + b"text " * 1000)
        file.seek(size - 512)
        file.write(b"E" * 512)
    return path


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images", signing_key=manifest.make_key(tmp_path / "keys"))


def public(store: ImageStore) -> str:
    assert store.signing_key is not None
    return manifest.public_hex(store.signing_key)


def qemu_img(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


FORMATS = [  # options of qemu-img convert
    ["-O", "qcow2"],
    ["-c", "-O", "qcow2"],
    ["-c", "-O", "qcow2", "-o", "compression_type=zstd,cluster_size=2M"],
    ["-O", "qcow2", "-o", "compat=0.10,cluster_size=4096"],
    ["-O", "raw"],
]


@pytest.mark.parametrize("words", FORMATS, ids=lambda words: " ".join(words))
def test_every_format_gives_the_same_image(store: ImageStore, tmp_path: Path, words: list[str]) -> None:
    raw = raw_disk(tmp_path / "d.raw")
    qemu_img("convert", "-f", "raw", *words, str(raw), str(tmp_path / "given"))
    image = store.add(tmp_path / "given", name="web")
    expected = subprocess.run(["zstd", "-dc", str(image.dir / "image.zst")], capture_output=True, check=True).stdout
    assert expected == raw.read_bytes()
    assert image.id == store.add(raw, name="web").id
    store.export("web", tmp_path / "back.raw")
    assert (tmp_path / "back.raw").read_bytes() == raw.read_bytes()


def test_the_manifest_is_what_architecture_says(store: ImageStore, tmp_path: Path) -> None:
    image = store.add(raw_disk(tmp_path / "d"), name="web", properties={"agent": "baremetal"})
    doc = json.loads((image.dir / "manifest.json").read_bytes())
    data = (image.dir / "image.zst").read_bytes()
    assert image.hex == hashlib.sha256(data).hexdigest() == image.dir.name
    assert doc["raw_size"] == 13 * MIB
    assert doc["chunk_size"] == 4 * MIB
    assert doc["zst_size"] == len(data)
    assert [bool(chunk["zsize"]) for chunk in doc["chunks"]] == [True, True, False, True]
    for chunk in doc["chunks"]:
        if chunk["zsize"]:
            frame = data[chunk["offset"] : chunk["offset"] + chunk["zsize"]]
            assert hashlib.sha256(frame).hexdigest() == chunk["sha256"]
    manifest.check((image.dir / "manifest.json").read_bytes(), (image.dir / "manifest.sig").read_text(), public(store))


def test_a_tampered_manifest_does_not_verify(store: ImageStore, tmp_path: Path) -> None:
    image = store.add(raw_disk(tmp_path / "d"), name="web")
    store.verify("web", public(store))
    path = image.dir / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"web"', b'"wep"'))
    with pytest.raises(ImageCorrupt, match="signature"):
        store.verify("web", public(store))


def test_a_flipped_bit_is_found_with_its_chunk(store: ImageStore, tmp_path: Path) -> None:
    image = store.add(raw_disk(tmp_path / "d"), name="web")
    assert image.manifest is not None
    at = image.manifest.chunks[1].offset + 20
    data = bytearray((image.dir / "image.zst").read_bytes())
    data[at] ^= 1
    (image.dir / "image.zst").write_bytes(data)
    with pytest.raises(ImageCorrupt, match="chunk 1 "):
        store.verify("web")


def test_names_tags_and_short_ids(store: ImageStore, tmp_path: Path) -> None:
    first = store.add(raw_disk(tmp_path / "a", seed=1), name="web")
    second = store.add(raw_disk(tmp_path / "b", seed=2), name="web")
    assert store.get("web").id == second.id
    assert store.get(first.hex[:12]).name == f"web@{first.hex[:12]}"
    store.tag("web", "stable")
    store.tag(first.id, "stable")
    assert store.get("stable").id == first.id
    with pytest.raises(ImageNotFound, match="'nothing'"):
        store.get("nothing")


def test_an_image_in_use_stays(store: ImageStore, tmp_path: Path) -> None:
    image = store.add(raw_disk(tmp_path / "a"), name="web")
    with pytest.raises(ImageInUse, match="used by r1-u07"):
        store.delete("web", used_by=lambda image_id: ["r1-u07"] if image_id == image.id else [])
    store.delete("web")
    assert store.list() == []
    assert not image.dir.exists()


def test_the_wrong_digest_is_refused(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="not the file that was named"):
        store.add(raw_disk(tmp_path / "a"), name="web", sha256="0" * 64)
    assert list((tmp_path / "images").iterdir()) == []


def test_a_stream_is_taken(store: ImageStore, tmp_path: Path) -> None:
    raw = raw_disk(tmp_path / "a")
    assert store.add(io.BytesIO(raw.read_bytes()), name="x").id == store.add(raw, name="y").id


def test_a_ramdisk_pair(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"kernel")
    (tmp_path / "i").write_bytes(b"initrd")
    image = store.add_ramdisk(tmp_path / "k", tmp_path / "i", name="ramdisk")
    assert store.verify("ramdisk").kind == "ramdisk"
    assert image.manifest is None
    (image.dir / "initrd").write_bytes(b"other")
    with pytest.raises(ImageCorrupt):
        store.verify("ramdisk")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".x", "x\n", "ü"])
def test_hostile_image_names(store: ImageStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadImage, match="bad image name"):
        store.add(raw_disk(tmp_path / "a"), name=name)


def test_no_name_can_stand_for_another_image_s_id(store: ImageStore, tmp_path: Path) -> None:
    first = store.add(raw_disk(tmp_path / "a"), name="web")
    with pytest.raises(BadImage, match="ids look so"):
        store.add(raw_disk(tmp_path / "b", seed=2), name=first.hex)
    other = store.add(raw_disk(tmp_path / "b", seed=2), name="20241121")
    with pytest.raises(BadImage, match="ids look so"):
        store.tag("20241121", first.hex)
    meta = other.dir / "meta.json"  # as an older version may have stored it
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "name": first.hex}))
    assert store.get(first.hex).id == store.get(first.id).id == first.id


@pytest.mark.parametrize("missing", ["k", "i"])
def test_a_ramdisk_without_one_of_its_files_is_told(store: ImageStore, tmp_path: Path, missing: str) -> None:
    for name in {"k", "i"} - {missing}:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadImage, match=f"/{missing} is no file"):
        store.add_ramdisk(tmp_path / "k", tmp_path / "i", name="ramdisk")


def test_what_a_killed_add_left_is_cleared(store: ImageStore, tmp_path: Path) -> None:
    (store.root / ".draft-999999-abc").mkdir(parents=True)
    store.add(raw_disk(tmp_path / "a"), name="web")
    assert not list(store.root.glob(".draft-*"))


NOT_DISKS = [(b"", "not a disk"), (b"#!/bin/sh\n", "not a disk"), (bytes(1024), "neither qcow2 nor")]


@pytest.mark.parametrize(("data", "said"), NOT_DISKS)
def test_what_is_no_disk_is_refused(store: ImageStore, tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadImage, match=said):
        store.add(tmp_path / "x", name="x")


def test_a_backing_file_is_never_opened(store: ImageStore, tmp_path: Path) -> None:
    secret = raw_disk(tmp_path / "secret")
    qemu_img("create", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(tmp_path / "evil.qcow2"))
    with pytest.raises(BadImage, match="backing file"):
        store.add(tmp_path / "evil.qcow2", name="evil")


def test_an_external_data_file_is_never_opened(store: ImageStore, tmp_path: Path) -> None:
    data = tmp_path / "data.raw"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={data}", str(tmp_path / "evil.qcow2"), "16M")
    with pytest.raises(BadImage, match="external file"):
        store.add(tmp_path / "evil.qcow2", name="evil")


def header(**changes: int) -> bytes:
    fields = {"version": 3, "backing": 0, "bits": 16, "size": MIB, "crypt": 0, "l1": 1, "l1_at": 65536, "snaps": 0}
    f = {**fields, **changes}
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb", f["version"], f["backing"], 0, f["bits"], f["size"], f["crypt"], f["l1"], f["l1_at"], 0, 0,
        f["snaps"], 0,
    )  # fmt: skip
    return (head + struct.pack(">QQQII", f.get("features", 0), 0, 0, 4, 104)).ljust(3 * 65536, b"\0")


HOSTILE = [  # header                          what is said
    ({"version": 9}, "version 9"),
    ({"backing": 200}, "backing file"),
    ({"crypt": 1}, "encrypted"),
    ({"bits": 60}, "cluster size"),
    ({"bits": 8}, "cluster size"),
    ({"size": 1 << 60}, "virtual size"),
    ({"size": 0}, "virtual size"),
    ({"l1": 1 << 30}, "L1 table"),
    ({"l1": 0}, "L1 table"),
    ({"l1_at": 1 << 50}, "L1 table"),
    ({"snaps": 3}, "snapshots"),
    ({"features": 2}, "corrupt"),
    ({"features": 4}, "external"),
    ({"features": 16}, "extended L2"),
    ({"features": 1 << 40}, "incompatible"),
]


@pytest.mark.parametrize(("changes", "said"), HOSTILE, ids=[str(h[0]) for h in HOSTILE])
def test_hostile_headers_are_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(BadImage, match=said):
        qcow2.inspect(io.BytesIO(header(**changes)), "evil")


def test_a_pointer_outside_the_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(header(size=64 * MIB))
    struct.pack_into(">Q", data, 65536, 1 << 40)
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadImage, match="points outside itself"):
        list(qcow2.disk_chunks(tmp_path / "x", chunks.CHUNK))


def bomb(l2_tables: list[int], entries: dict[int, int]) -> bytes:
    """Clusters of 64 KiB: header, L1 table, one L2 table at 128 KiB with these entries, one cluster of data."""
    data = bytearray(header(size=len(l2_tables) * 512 * MIB, l1=len(l2_tables)) + b"x" * 65536)
    for number, table in enumerate(l2_tables):
        struct.pack_into(">Q", data, 65536 + number * 8, table)
    for number, entry in entries.items():
        struct.pack_into(">Q", data, 131072 + number * 8, entry)
    return bytes(data)


BOMBS = {  # a few bytes that would make gigabytes
    "one L2 table for all": bomb([131072, 131072], {0: 196608}),
    "one cluster for all": bomb([131072], dict.fromkeys(range(8192), 196608)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_whose_clusters_share_bytes_is_refused(name: str) -> None:
    parts: list[bytes | None] = []
    with pytest.raises(BadImage, match="more than once"):
        parts.extend(qcow2.Reader(io.BytesIO(BOMBS[name]), "evil").clusters())
    assert sum(len(part or b"") for part in parts) <= len(BOMBS[name]) + 65536


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=4096), st.integers(0, 103), st.binary(max_size=8))
def test_any_bytes_are_a_disk_or_a_clean_error(tail: bytes, at: int, patch: bytes) -> None:
    data = bytearray(header()[:65536] + tail)
    data[at : at + len(patch)] = patch
    try:
        reader = qcow2.Reader(io.BytesIO(bytes(data)), "fuzz")
        if reader.header.virtual_size <= 64 * MIB:
            for _ in reader.clusters():
                pass
    except BadImage:
        pass


def test_an_image_added_again_is_never_half_deleted(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the old files are removed: the image is whole; the next add clears what was left."""
    import baremetal.images.store as module

    raw = raw_disk(tmp_path / "d")
    image = store.add(raw, name="web")
    remove = module.remove

    def killed(path: Path) -> None:
        if ".gone-" in path.name:
            path.rename(path.with_name(path.name.rpartition("-")[0] + "-999999999"))
            raise KeyboardInterrupt
        remove(path)

    monkeypatch.setattr(module, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        store.add(raw, name="web")
    monkeypatch.undo()
    assert store.verify("web", public(store)).id == image.id
    store.add(raw_disk(tmp_path / "other", seed=2), name="other")
    assert [p.name for p in store.root.glob(".*-*")] == []


def test_the_same_disk_under_another_name_answers_to_both_and_keeps_its_tags(store: ImageStore, tmp_path: Path) -> None:
    disk = raw_disk(tmp_path / "disk.raw")
    first = store.add(disk, name="one")
    store.tag("one", "golden")
    again = store.add(disk, name="two")
    assert again.id == first.id
    assert [store.get(ref).id for ref in ("one", "two", "golden")] == [first.id] * 3
    assert store.add(disk, name="one").tags == ("golden", "two")
