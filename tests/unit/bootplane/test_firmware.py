"""Scripts for every case, and files by Range, HEAD and ETag."""

import pytest
from conftest_bootplane import MAC, sha, until, view

from baremetal.bootplane.files import Span, span_of
from baremetal.model.boot import Purpose


async def script(rig, mac=MAC):
    async with rig.session.get(f"{rig.http}/boot/{mac.replace(':', '-')}.ipxe") as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return await answer.text()


async def test_script_by_purpose(rig):
    assert "kernel " in await script(rig)
    rig.control.push(view(purpose=Purpose.DISK))
    await until(lambda: rig.state.nodes["n1"].record.purpose is Purpose.DISK)
    assert "sanboot" in await script(rig)
    rig.control.push(view(purpose=Purpose.NONE))
    await until(lambda: rig.state.nodes["n1"].record.purpose is Purpose.NONE)
    assert "kernel " not in await script(rig)
    assert "No node has" in await script(rig, "02:00:00:00:00:99")


async def test_script_after_hello_waits_and_alarms(rig):
    rig.control.push(view(nonce_key=None, ramdisk_token_sha256=sha("t")))
    await until(lambda: rig.state.nodes["n1"].view.nonce_key is None)
    text = await script(rig)
    assert "nonce" not in text
    assert "chain --replace" in text
    await until(lambda: any(m.kind == "refused" and m.body["what"] == "script" for m in rig.control.seen))


async def test_script_waits_while_there_is_no_ramdisk(rig):
    rig.control.push(view(nonce_key="11" * 32, record={"kernel": None}))
    await until(lambda: rig.state.nodes["n1"].record.kernel is None)
    assert "image build deploy-ramdisk" in await script(rig)


async def test_hostile_command_line_never_reaches_the_script(rig):
    rig.control.push(view(nonce_key="11" * 32, record={"cmdline": "a\nshell"}))
    await until(lambda: rig.state.nodes["n1"].record.cmdline != "console=ttyS0")
    text = await script(rig)
    assert "shell" not in text.splitlines()
    assert "chain --replace" in text


@pytest.mark.parametrize(
    "path",
    ["/artifacts/../spool.jsonl", "/artifacts/%2e%2e%2fspool.jsonl", "/artifacts/x", "/images/../x", "/loaders/x",
     "/images/" + "ab" * 32 + "/meta.json", "/images/" + "cd" * 32 + "/image.zst", "/boot/x.ipxe", "/boot/..ipxe"],
)  # fmt: skip
async def test_only_known_names_are_served(rig, path):
    from yarl import URL

    async with rig.session.get(URL(rig.http + path, encoded=True)) as answer:
        assert answer.status == 404
        assert "error" in await answer.json()


async def test_artifact_whole_and_in_parts(rig):
    content, url = rig.artifact.read_bytes(), rig.http + "/artifacts/vmlinuz"
    async with rig.session.get(url) as answer:
        assert await answer.read() == content
        etag = answer.headers["ETag"]
        assert etag == '"' + "aa" * 32 + '"'
    async with rig.session.get(url, headers={"Range": "bytes=1000-1999"}) as answer:
        assert answer.status == 206
        assert await answer.read() == content[1000:2000]
        assert answer.headers["Content-Range"] == f"bytes 1000-1999/{len(content)}"
    async with rig.session.head(url) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(content)))
    async with rig.session.get(url, headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304
    async with rig.session.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'}) as answer:
        assert answer.status == 200
    async with rig.session.get(url, headers={"Range": f"bytes={len(content)}-"}) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(content)}")
    async with rig.session.get(url) as answer:  # the connection is still in step
        assert len(await answer.read()) == len(content)
    await until(lambda: sum(m.kind == "artifact-sent" and m.node == "n1" for m in rig.control.seen) >= 2)


async def test_image_by_both_applications(rig):
    path = "/images/" + "ab" * 32
    async with rig.session.get(rig.http + path + "/image.zst") as answer:
        assert await answer.read() == (rig.image / "image.zst").read_bytes()
    async with rig.session.get(rig.https.removesuffix("/agent/v1") + path + "/manifest.json") as answer:
        assert await answer.json() == {}
    async with rig.session.get(rig.http + path + "/manifest.sig") as answer:  # known name, file not there
        assert answer.status == 404


async def test_loader_from_the_table(rig):
    async with rig.session.head(rig.http + "/loaders/small.efi") as answer:  # UEFI HTTP boot asks for the size first
        assert answer.headers["Content-Length"] == "2"
    async with rig.session.get(rig.http + "/loaders/small.efi") as answer:
        assert await answer.read() == b"MZ"
    await until(lambda: sum(m.kind == "loader-sent" and m.body["bytes"] == 2 for m in rig.control.seen) == 1)


SPANS = [  # header, size, answer
    (None, 10, Span(200, 0, 10)),
    ("bytes=0-0", 10, Span(206, 0, 1)),
    ("bytes=5-", 10, Span(206, 5, 5)),
    ("bytes=-3", 10, Span(206, 7, 3)),
    ("bytes=-30", 10, Span(206, 0, 10)),
    ("bytes=0-99", 10, Span(206, 0, 10)),
    ("bytes=10-", 10, Span(416, 0, 0)),
    ("bytes=-0", 10, Span(416, 0, 0)),
    ("bytes=5-4", 10, Span(200, 0, 10)),
    ("bytes=-", 10, Span(200, 0, 10)),
    ("bytes=0-1,3-4", 10, Span(200, 0, 10)),
    ("lines=0-1", 10, Span(200, 0, 10)),
    ("bytes=" + "9" * 30 + "-", 10, Span(416, 0, 0)),
    ("bytes=0-", 0, Span(416, 0, 0)),
]


@pytest.mark.parametrize(("header", "size", "span"), SPANS)
def test_ranges(header, size, span):
    assert span_of(header, size) == span
