"""Whatever a disk, a server or a switch puts before the agent: an answer or a clean error, never anything else."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from baremetal.agents import ata, efiboot, fat, gpt, ipmidev, manifest, mbr, nvme
from baremetal.agents.http import Url
from baremetal.agents.ramdisk import bootif, parse_cmdline
from baremetal.agents.trouble import ImageManifest
from baremetal.protocol import configdrive, ed25519

ISO = configdrive.build({"a/b.json": b"{}", "c": b"x" * 3000})
MIB = 1 << 20
DISK = io.BytesIO(bytes(8 * MIB))
gpt.write(DISK, gpt.append(gpt.empty(8 * MIB), MIB, gpt.LINUX_DATA, "x"), 8 * MIB)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=30).filter(
    lambda n: n not in (".", "..")
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, st.binary(max_size=5000), max_size=12))
def test_config_drive_returns_what_it_was_given(files: dict[str, bytes]) -> None:
    assert configdrive.read(configdrive.build(files)) == files


@given(st.integers(16 * 2048, len(ISO) - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_volume_is_read_or_refused(at: int, junk: bytes) -> None:
    damaged = ISO[:at] + junk + ISO[at + len(junk) :]
    try:
        files = configdrive.read(damaged[: len(ISO)])
    except configdrive.BadDrive:
        return
    assert all(".." not in name.split("/") and not name.startswith("/") for name in files)


@given(st.binary(max_size=300))
def test_any_text_as_packed_drive(data: bytes) -> None:
    with contextlib.suppress(configdrive.BadDrive):
        configdrive.unpack(data.decode("latin-1"))


@given(st.integers(512, 17408), st.binary(min_size=1, max_size=16))
def test_a_damaged_partition_table_is_refused(at: int, junk: bytes) -> None:
    raw = DISK.getvalue()
    damaged = raw[:at] + junk + raw[at + len(junk) :]
    try:
        table = gpt.read(io.BytesIO(damaged))
    except gpt.BadTable:
        return
    # Only bytes outside both checksums may change unnoticed: reserved tail of the header sector, or equal bytes.
    assert table == gpt.read(io.BytesIO(raw))


@given(st.binary(min_size=512, max_size=512))
def test_any_boot_sector(head: bytes) -> None:
    with contextlib.suppress(gpt.BadTable):
        mbr.append(bytearray(head), 64 * MIB, 512, MIB)


@given(JSON)
def test_any_json_as_manifest(doc: Any) -> None:
    for text in (doc, {"id": "x", "raw_size": doc, "chunk_size": doc, "zst_size": doc, "chunks": doc}):
        with contextlib.suppress(ImageManifest):
            manifest.parse(json.dumps(text).encode())


@given(st.binary(max_size=64), st.binary(max_size=20), st.binary(min_size=64, max_size=64))
def test_no_signature_by_chance(key: bytes, message: bytes, signature: bytes) -> None:
    assert not ed25519.verify(key[:32].ljust(32, b"\1"), message, signature)


@given(st.text(max_size=60))
def test_any_url_and_any_command_line(text: str) -> None:
    with contextlib.suppress(ValueError):
        Url.parse("http://" + text)
    bootif(parse_cmdline(text))


BOOT = (
    b"\xeb\x3c\x90MTOO4043"
    + bytes.fromhex("0002040100020002f87ff80010003f000200000000000000")
    + bytes(474)
    + b"\x55\xaa"
)


@settings(deadline=None)
@given(st.binary(max_size=4096), st.lists(st.tuples(st.integers(11, 48), st.integers(0, 255)), max_size=6))
def test_any_bytes_behind_a_fat_boot_sector(junk: bytes, changes: list[tuple[int, int]]) -> None:
    volume = bytearray((BOOT[:512]).ljust(512, b"\0") + junk * 4)
    for at, value in changes:
        volume[at] = value
    volume[510:512] = b"\x55\xaa"
    with contextlib.suppress(ValueError):
        fat.loader(lambda offset, length: bytes(volume[max(0, offset) : max(0, offset) + length]))


@given(st.integers(0, 0xFFFF), st.binary(max_size=200))
def test_any_boot_entry(number: int, raw: bytes) -> None:
    entry = efiboot.parse(number, raw)
    assert entry is None or entry.number == number


@given(st.binary(min_size=512, max_size=512))
def test_any_answer_of_a_drive(page: bytes) -> None:
    ata.abilities(page)
    ata.parse_smart(page)
    ata.task_file(page)
    nvme.parse_sanitize(page)


@given(st.binary(max_size=40))
def test_any_answer_of_a_bmc(data: bytes) -> None:
    found = ipmidev.lan(lambda netfn, cmd, given: data)
    assert found is None or set(found) == {"channel", "bmc_address", "bmc_mac", "bmc_v6address"}
