"""Writing an image to a file that stands for a disk, from a real server that fails in every way it can."""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import gpt, installer, pipeline
from baremetal.agents.disks import Disk
from baremetal.agents.http import Client, Url
from baremetal.agents.trouble import (
    ConfigDriveBad,
    DiskRefused,
    DiskTooSmall,
    DownloadFailed,
    ImageChunkCorrupt,
    ImageManifest,
    ImageSignature,
    ImageTruncated,
    NodeTrouble,
    OrderAborted,
    OrderRefused,
)
from baremetal.protocol import configdrive

MIB = 1 << 20
ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
DRIVE = {"openstack/latest/meta_data.json": b"{}", "baremetal/agent.json": b'{"nonce": "1"}'}


def golden() -> bytes:
    """4.2 MiB: GPT, random data, long zeros, a short last chunk."""
    size = 4 * MIB + 200 * 512
    disk = io.BytesIO(bytes(size))
    table = gpt.append(gpt.empty(size), 2 * MIB, ROOT, "root")
    gpt.write(disk, table, size)
    gpt.write_protective_mbr(disk, size)
    disk.seek(0)
    disk.write(b"\xebBOOT")
    disk.seek(MIB + 5000)
    disk.write(os.urandom(700_000))
    disk.seek(3 * MIB)
    disk.write(b"end of data" * 1000)
    return disk.getvalue()


class Bench:
    """A disk full of the last tenant's data, and what the installer needs."""

    def __init__(self, tmp_path: Path, server: Any, key: bytes, size: int = 16 * MIB) -> None:
        self.path = tmp_path / "disk"
        self.path.write_bytes(b"\xa5" * size)
        self.server = server
        self.disk = Disk("vda", str(self.path), size, serial="S1")
        self.steps: list[tuple[str, int]] = []
        self.site = installer.Site(self.connect, key, lambda: [self.disk], self.progress, give_up_s=0.5)

    def connect(self, url: str) -> Client:
        parts = Url.parse(url)
        base = f"{'https' if parts.secure else 'http'}://{parts.netloc}"
        return Client(base, ca_file=str(self.server.ca_file), timeout_s=5)

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        self.steps.append((stage, done))

    def write(self, urls: dict[str, str], **more: Any) -> dict[str, Any]:
        return installer.write_image({**urls, "root_device": {"serial": "S1"}, **more}, self.site)

    def refused(self, urls: dict[str, str], kind: type[NodeTrouble], **more: Any) -> NodeTrouble:
        with pytest.raises(kind) as caught:
            self.write(urls, **more)
        assert caught.value.brief
        return caught.value

    def untouched(self) -> bool:
        return self.path.read_bytes() == b"\xa5" * self.disk.size

    def unbootable(self) -> bool:
        return self.path.read_bytes()[:MIB] == bytes(MIB)


@pytest.fixture
def bench(tmp_path: Path, server: Any, public_key: bytes) -> Bench:
    return Bench(tmp_path, server, public_key)


def test_image_table_and_config_drive_are_on_the_disk(bench: Bench, make_image: Any) -> None:
    raw = golden()
    report = bench.write(bench.server.put_image(make_image(raw)), config_drive=configdrive.pack(DRIVE))
    disk = bench.path.read_bytes()
    assert disk[MIB : len(raw)] == raw[MIB:]
    assert disk[:446] == raw[:446]
    with bench.path.open("r+b") as f:
        table, backup = gpt.read(f), gpt.read_backup(f, bench.disk.size)
    assert [p.name for p in table.partitions] == ["root", "config-2"]
    assert table.partitions == backup.partitions
    drive = table.partitions[1]
    assert configdrive.read(disk[drive.first * 512 : (drive.last + 1) * 512]) == DRIVE
    assert report["config_drive"]["first_byte"] == drive.first * 512
    assert report["bytes"] == len(raw)
    assert report["written"] + report["zeroed"] == len(raw)
    assert bench.steps[-1][0] == "flush"


def test_without_config_drive_the_table_still_reaches_the_end(bench: Bench, make_image: Any) -> None:
    report = bench.write(bench.server.put_image(make_image(golden())))
    with bench.path.open("r+b") as f:
        assert gpt.read(f).last_usable == bench.disk.size // 512 - 34
    assert report["config_drive"] is None


def test_an_image_without_partitions_is_written_as_it_is(bench: Bench, make_image: Any) -> None:
    raw = os.urandom(700_000 // 512 * 512)
    bench.write(bench.server.put_image(make_image(raw)))
    assert bench.path.read_bytes()[: len(raw)] == raw
    fault = bench.refused(bench.server.put_image(make_image(raw)), ConfigDriveBad, config_drive=configdrive.pack(DRIVE))
    assert "GPT" in fault.fix
    assert bench.unbootable()


def test_zeros_of_the_image_erase_what_was_there(bench: Bench, make_image: Any) -> None:
    bench.write(bench.server.put_image(make_image(bytes(3 * MIB))))
    assert bench.path.read_bytes()[: 3 * MIB] == bytes(3 * MIB)


def test_broken_connections_are_resumed_in_mid_frame(bench: Bench, make_image: Any) -> None:
    image = make_image(golden())
    bench.server.cut_at = []
    urls = bench.server.put_image(image)
    bench.server.cut_at = [100_003, 77, 300_001, 1]
    # Manifest and signature are small: the cuts hit the image alone when they are larger than those.
    report = bench.write(urls)
    assert report["resumed"] >= 2
    assert bench.path.read_bytes()[MIB : len(image.raw)] == image.raw[MIB:]


def test_a_busy_server_is_waited_for(bench: Bench, make_image: Any) -> None:
    urls = bench.server.put_image(make_image(golden()))
    bench.server.busy = 2
    assert bench.write(urls)["disk"] == str(bench.path)


def test_a_server_that_stays_away_is_a_fault_and_nothing_boots(bench: Bench, make_image: Any) -> None:
    urls = bench.server.put_image(make_image(golden()))
    fault = bench.refused({**urls, "image_url": "http://127.0.0.1:9/i/image.zst"}, DownloadFailed)
    assert fault.code == "download-failed"
    assert "127.0.0.1:9" in fault.detail
    assert bench.unbootable()


def test_a_corrupt_chunk_never_reaches_the_disk(bench: Bench, make_image: Any) -> None:
    image = make_image(golden())
    damaged = bytearray(image.zst)
    damaged[image.doc["chunks"][4]["offset"] + 1000] ^= 1
    urls = bench.server.put_image(image)
    bench.server.files["/i/image.zst"] = bytes(damaged)
    fault = bench.refused(urls, ImageChunkCorrupt)
    assert fault.evidence["chunk"] == 4
    assert bench.unbootable()
    at = 4 * image.doc["chunk_size"]
    assert bench.path.read_bytes()[at : at + 1000] == b"\xa5" * 1000  # still the old data, not the damaged chunk


def test_a_short_image_file_is_truncated(bench: Bench, make_image: Any) -> None:
    image = make_image(golden())
    urls = bench.server.put_image(image)
    bench.server.files["/i/image.zst"] = image.zst[:-100]
    fault = bench.refused(urls, ImageTruncated)
    assert fault.evidence["wanted"] == len(image.zst)


def test_a_frame_of_the_wrong_length_is_refused(bench: Bench, make_image: Any) -> None:
    image = make_image(golden())
    image.doc["raw_size"] -= 512  # the last chunk now unpacks to more than the manifest allows
    fault = bench.refused(bench.server.put_image(image.sign()), ImageChunkCorrupt)
    assert "decompress" in fault.brief
    assert bench.unbootable()


def test_a_manifest_changed_by_one_byte_is_refused(bench: Bench, make_image: Any) -> None:
    image = make_image(golden())
    image.manifest = image.manifest.replace(b'"test"', b'"tesT"')
    bench.refused(bench.server.put_image(image), ImageSignature)
    assert bench.untouched()


@pytest.mark.parametrize("signature", [b"", b"????", b"QUJD"])
def test_a_signature_that_is_none_is_refused(bench: Bench, make_image: Any, signature: bytes) -> None:
    image = make_image(golden())
    image.signature = signature
    bench.refused(bench.server.put_image(image), ImageSignature)
    assert bench.untouched()


@pytest.mark.parametrize(
    "change",
    [
        {"raw_size": -1},
        {"raw_size": True},
        {"raw_size": 1 << 60},
        {"chunk_size": 1 << 40},
        {"chunk_size": 100},
        {"zst_size": 5},
        {"chunks": []},
        {"chunks": [{"offset": 0, "zsize": 1 << 40, "sha256": "0" * 64}]},
        {"chunks": [7]},
        {"chunks": None},
    ],
)
def test_a_signed_manifest_that_does_not_add_up_is_refused(
    bench: Bench, make_image: Any, change: dict[str, Any]
) -> None:
    image = make_image(golden())
    image.doc.update(change)
    bench.refused(bench.server.put_image(image.sign()), ImageManifest)
    assert bench.untouched()


def test_another_image_than_ordered_is_refused(bench: Bench, make_image: Any) -> None:
    fault = bench.refused(bench.server.put_image(make_image(golden())), OrderRefused, image_id="sha256:" + "0" * 64)
    assert "the order is for image" in fault.brief
    assert bench.untouched()


def test_a_disk_smaller_than_the_image_is_left_alone(
    tmp_path: Path, server: Any, public_key: bytes, make_image: Any
) -> None:
    bench = Bench(tmp_path, server, public_key, size=5 * MIB)
    urls = server.put_image(make_image(golden()))
    bench.refused(urls, DiskTooSmall, config_drive=configdrive.pack(DRIVE))
    assert bench.untouched()
    bench.write(urls)  # without the config drive it fits


def test_another_sector_size_is_refused(bench: Bench, make_image: Any) -> None:
    bench.disk = Disk("vda", str(bench.path), bench.disk.size, serial="S1", logical_sector=4096)
    bench.refused(bench.server.put_image(make_image(golden())), DiskRefused)
    assert bench.untouched()


@pytest.mark.parametrize("name", ["manifest_url", "signature_url", "image_url"])
@pytest.mark.parametrize("value", [None, "", "ftp://x/y", "http://user@x/", 5])
def test_an_order_without_addresses_is_refused(bench: Bench, make_image: Any, name: str, value: Any) -> None:
    urls: dict[str, Any] = bench.server.put_image(make_image(golden()))
    bench.refused({**urls, name: value}, OrderRefused)
    assert bench.untouched()


def test_an_aborted_order_leaves_nothing_bootable(bench: Bench, make_image: Any) -> None:
    def progress(stage: str, done: int, total: int, unit: str) -> None:
        if done > MIB:
            raise OrderAborted("the server ended this boot")

    bench.site.progress = progress
    bench.refused(bench.server.put_image(make_image(golden())), OrderAborted)
    assert bench.unbootable()


def test_a_server_that_ignores_ranges_cannot_corrupt(bench: Bench, make_image: Any) -> None:
    urls = bench.server.put_image(make_image(golden()))
    bench.server.ignore_range = True
    bench.server.cut_at = [400_000]
    bench.refused(urls, DownloadFailed)
    assert bench.unbootable()


def test_memory_is_bounded_by_buffers_not_by_the_image() -> None:
    assert pipeline.BUFFERS <= 4
