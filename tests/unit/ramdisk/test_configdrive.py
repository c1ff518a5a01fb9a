"""Config drives: what goes in comes out, the same bytes every time, and hostile volumes are refused."""

from __future__ import annotations

import base64
import gzip
import struct

import pytest

from baremetal.protocol import configdrive as drive

FILES = {
    "openstack/latest/meta_data.json": b'{"hostname": "r1-u07"}' * 500,
    "openstack/latest/network_data.json": b"{}",
    "openstack/latest/user_data": b"#!/bin/sh\n",
    "ec2/latest/meta-data.json": b"{}",
    "baremetal/agent.json": b"{}",
    "baremetal/metadata.json": b"",
    "Ünïcode näme.with.dots": b"u",
    "a/b/c/d/e/f/g": b"deep",
    **{f"many/file-{n:04}.txt": bytes([n % 256]) * n for n in range(300)},
}


def test_what_goes_in_comes_out() -> None:
    image = drive.build(FILES)
    assert drive.read(image) == FILES
    assert drive.label(image) == "config-2"
    assert len(image) % 2048 == 0


def test_same_files_same_bytes_whatever_the_order() -> None:
    backwards = dict(reversed(list(FILES.items())))
    assert drive.build(FILES) == drive.build(backwards)
    assert drive.pack(FILES) == drive.pack(backwards)


def test_joliet_tree_holds_the_same_files() -> None:
    image = bytearray(drive.build(FILES))
    root = struct.unpack_from("<I", image, 16 * 2048 + 158)[0] * 2048
    image[image.index(b"SP\x07\x01\xbe\xef", root)] = 0  # without Rock Ridge a reader takes Joliet
    assert drive.read(bytes(image)) == FILES


def test_pack_and_unpack() -> None:
    assert drive.unpack(drive.pack(FILES)) == drive.build(FILES)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../up", "a//b", "a/./b", "nul\0", "back\\slash", "x" * 65, "1/2/3/4/5/6/7/8/9"]
)
def test_bad_paths_are_refused(path: str) -> None:
    with pytest.raises(drive.BadDrive):
        drive.build({path: b""})


def test_a_name_cannot_be_file_and_folder() -> None:
    with pytest.raises(drive.BadDrive, match="file and a directory"):
        drive.build({"a": b"", "a/b": b""})
    with pytest.raises(drive.BadDrive, match="file and a directory"):
        drive.build({"a-/b": b"", "a-": b""})


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"not gzip").decode(),
        drive.pack({"a": b""})[:-40],
        base64.b64encode(gzip.compress(b"no iso at all")).decode(),
        base64.b64encode(gzip.compress(bytes(drive.MAX_BYTES + 1))).decode(),
    ],
)
def test_damaged_packing_is_refused(text: str) -> None:
    with pytest.raises(drive.BadDrive):
        drive.unpack(text)


def test_cut_volume_is_refused() -> None:
    image = drive.build({"a": b"x" * 5000})
    with pytest.raises(drive.BadDrive, match="cut short"):
        drive.read(image[:-2048])


def test_directory_that_contains_itself_is_refused() -> None:
    image = bytearray(drive.build({"loop/x": b""}))
    root = struct.unpack_from("<I", image, 16 * 2048 + 158)[0]
    at = image.index(b"LOOP", root * 2048) - 33
    image[at + 2 : at + 6] = struct.pack("<I", root)
    with pytest.raises(drive.BadDrive, match="circle"):
        drive.read(bytes(image))
