"""Conditional requests and ranges, as RFC 9110 wants them: a row each."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from conftest_bootplane import MAC, until

from baremetal.bootplane import files
from baremetal.bootplane.conditions import Asked, conditions

TAG, THEN_S = '"abc"', 1_700_000_000
THEN, BEFORE, AFTER = (
    "Tue, 14 Nov 2023 22:13:20 GMT",
    "Tue, 14 Nov 2023 22:13:19 GMT",
    "Tue, 14 Nov 2023 22:13:21 GMT",
)
GO, SAME, NO, WHOLE = Asked(200), Asked(304), Asked(412), Asked(200, with_range=False)

ROWS = [
    ({}, GO),
    ({"If-Match": TAG}, GO),
    ({"If-Match": "*"}, GO),
    ({"If-Match": '"x", "abc"'}, GO),
    ({"If-Match": '"x"'}, NO),
    ({"If-Match": 'W/"abc"'}, NO),  # the strong comparison
    ({"If-Unmodified-Since": THEN}, GO),
    ({"If-Unmodified-Since": BEFORE}, NO),
    ({"If-Unmodified-Since": BEFORE, "If-Match": TAG}, GO),  # the tag wins over the date
    ({"If-None-Match": TAG}, SAME),
    ({"If-None-Match": 'W/"abc"'}, SAME),  # the weak comparison
    ({"If-None-Match": "*"}, SAME),
    ({"If-None-Match": '"x"'}, GO),
    ({"If-None-Match": '"x"', "If-Modified-Since": AFTER}, GO),  # the tag wins over the date
    ({"If-Modified-Since": THEN}, SAME),
    ({"If-Modified-Since": AFTER}, SAME),
    ({"If-Modified-Since": BEFORE}, GO),
    ({"If-Modified-Since": "yesterday"}, GO),
    ({"If-Match": '"x"', "If-None-Match": TAG}, NO),
    ({"If-Range": TAG}, GO),
    ({"If-Range": '"x"'}, WHOLE),
    ({"If-Range": 'W/"abc"'}, WHOLE),
    ({"If-Range": THEN}, GO),
    ({"If-Range": AFTER}, WHOLE),  # a date must be the very same
]


@pytest.mark.parametrize(("headers", "asked"), ROWS, ids=[str(row[0]) for row in ROWS])
def test_conditions(headers: dict[str, str], asked: Asked) -> None:
    assert conditions(headers, TAG, THEN_S) == asked


async def test_a_head_request_has_no_ranges(rig) -> None:
    size = rig.artifact.stat().st_size
    async with rig.session.head(f"{rig.http}/artifacts/vmlinuz", headers={"Range": "bytes=0-9"}) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(size))
        assert "Content-Range" not in answer.headers


async def test_what_was_fetched_once_is_not_sent_again(rig) -> None:
    url = f"{rig.http}/artifacts/vmlinuz"
    async with rig.session.get(url) as answer:
        await answer.read()
        when = answer.headers["Last-Modified"]
    async with rig.session.get(url, headers={"If-Modified-Since": when}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"]
    async with rig.session.get(url, headers={"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}) as answer:
        assert answer.status == 412


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_methods_are_refused_and_told_what_is_allowed(rig, method: str) -> None:
    async with rig.session.request(method, f"{rig.http}/artifacts/vmlinuz") as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}


async def until_cut_off(reader: asyncio.StreamReader) -> int:
    """Bytes that still came."""
    got = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := await reader.read(1 << 16):
            got += len(piece)
    return got


async def test_a_client_that_takes_nothing_is_cut_off_and_harms_nobody(rig, monkeypatch) -> None:
    """A machine that was switched off in the middle of its kernel."""
    monkeypatch.setattr(files, "STALL_S", 0.3)
    os.truncate(rig.artifact, 64 << 20)
    host, port = rig.http.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(b"GET /artifacts/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readexactly(12)
    async with rig.session.get(f"{rig.http}/boot/{MAC.replace(':', '-')}.ipxe") as answer:
        assert answer.status == 200  # meanwhile others are served
    await until(lambda: not files.SHARES._members)  # it is poured to no longer
    async with asyncio.timeout(90):
        assert await until_cut_off(reader) < 64 << 20
    writer.close()
    await until(lambda: not any(m.kind == "artifact-sent" for m in rig.control.seen))


async def test_downloads_share_what_they_may_and_scripts_get_through(rig) -> None:
    """Two readers of 1 MiB at 2 MiB/s in all: neither is through before the wire was paid for."""
    rig.apps.throttle.bytes_s = 2 << 20
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def whole() -> int:
        async with rig.session.get(f"{rig.http}/artifacts/vmlinuz") as answer:
            return len(await answer.read())

    readers = [asyncio.create_task(whole()) for _ in range(2)]
    async with rig.session.get(f"{rig.http}/boot/{MAC.replace(':', '-')}.ipxe") as answer:
        assert answer.status == 200
    assert await asyncio.gather(*readers) == [1 << 20, 1 << 20]
    assert loop.time() - began >= 0.7  # 2 MiB less the last pieces, which nobody waits for
