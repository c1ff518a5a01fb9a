"""Images that one server has and another lacks: fetched, verified, or refused with the reason."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import os
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from baremetal.engine.cluster import Cluster
from baremetal.images import peer
from baremetal.images.manifest import make_key, public_hex
from baremetal.images.peer import Place, Trust
from baremetal.images.store import ImageStore
from baremetal.serve import tls
from baremetal.store import servers
from baremetal.workflows import imagegone, imageshare
from baremetal.workflows.imagehere import ImageElsewhere
from baremetal.workflows.imageshare import AwayImage, SharedImages

pytestmark = pytest.mark.integration


class Boot(http.server.SimpleHTTPRequestHandler):
    """As much of a boot plane as gives images away."""

    def translate_path(self, path: str) -> str:
        return str(Path(self.directory) / path.removeprefix("/images/"))

    pause_s = 0.0  # after each 64 KiB

    def copyfile(self, source: Any, outputfile: Any) -> None:
        with contextlib.suppress(OSError):
            while block := source.read(1 << 16):
                outputfile.write(block)
                time.sleep(self.pause_s)

    def log_message(self, *_: Any) -> None:
        pass


def serve(root: Path, context: ssl.SSLContext | None = None) -> Any:
    """On loopback, with TLS when a context is given."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Boot, directory=str(root)))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Hall:
    """Servers a and b with their own image stores, on one database."""

    def __init__(self, directory: Path, url: str) -> None:
        self.key = make_key(directory)
        tls.make_ca(directory)
        tls.make_server(directory, ["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem", directory / "server.key")
        self.trust = Trust(public_hex(self.key), directory / "ca.pem")
        self.stores = {name: ImageStore(directory / name, signing_key=self.key) for name in "ab"}
        self.places: dict[str, Place] = {}
        self.clusters: dict[str, Cluster] = {}
        for name, store in self.stores.items():
            store.root.mkdir()
            ports = [serve(store.root, c).server_address[1] for c in (context, None)]
            place = Place(f"https://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
            self.places[place.https] = place
            cluster = self.clusters[name] = Cluster(url, name=name, version="0.1.0", site="x", urls=[place.https])
            cluster.open_store()
            cluster.join()

    def images(self, name: str) -> SharedImages:
        store = self.clusters[name].store
        assert store is not None
        return SharedImages(self.stores[name], store, name, self.trust, self.places.__getitem__)

    def close(self) -> None:
        for cluster in self.clusters.values():
            cluster.leave()
            assert cluster.store is not None
            cluster.store.close()


@pytest.fixture
def hall(tmp_path: Path, database: str) -> Iterator[Hall]:
    one = Hall(tmp_path, database)
    yield one
    one.close()


def disk(path: Path, fill: bytes) -> Path:
    path.write_bytes(fill * 510 + b"\x55\xaa" + fill * ((6 << 20) - 512))
    return path


@contextlib.asynccontextmanager
async def kept(*shared: SharedImages) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.keep()) for one in shared]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(test: Any, seconds: float = 120.0) -> None:
    async with asyncio.timeout(seconds):
        while not test():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_one_has_the_other_fetches_and_proves(hall: Hall, tmp_path: Path) -> None:
    kernel, initrd = tmp_path / "vmlinuz", tmp_path / "initrd.img"
    kernel.write_bytes(b"kernel" * 1000)
    initrd.write_bytes(b"initrd" * 5000)
    web = hall.stores["a"].add(disk(tmp_path / "web.raw", b"w"), name="web", properties={"agent": "baremetal"})
    ramdisk = hall.stores["a"].add_ramdisk(kernel, initrd, name="deploy-ramdisk")
    async with kept(hall.images("a"), hall.images("b")):
        await until(lambda: len(hall.stores["b"].list()) == 2)
    for image in (web, ramdisk):
        here = hall.stores["b"].verify(image.id, public_hex(hall.key))
        assert (here.name, here.properties, here.created) == (image.name, image.properties, image.created)


async def test_a_ramdisk_that_the_site_never_signed_is_refused(hall: Hall, tmp_path: Path) -> None:
    kernel, initrd = tmp_path / "vmlinuz", tmp_path / "initrd.img"
    kernel.write_bytes(b"kernel" * 1000)
    initrd.write_bytes(b"initrd" * 5000)
    (tmp_path / "other").mkdir()
    theirs = ImageStore(hall.stores["a"].root, signing_key=make_key(tmp_path / "other"))
    theirs.add_ramdisk(kernel, initrd, name="deploy-ramdisk")
    other = hall.images("b")
    async with kept(hall.images("a"), other):
        await until(lambda: bool(other._failed))
        with pytest.raises(ImageElsewhere, match="signature does not verify"):
            other.need(other.get("deploy-ramdisk"))
    assert hall.stores["b"].list() == []


async def test_what_was_deleted_here_comes_back_only_when_a_deploy_needs_it(hall: Hall, tmp_path: Path) -> None:
    web = hall.stores["a"].add(disk(tmp_path / "web.raw", b"w"), name="web")
    other = hall.images("b")
    async with kept(hall.images("a"), other):
        await until(lambda: web.hex in imageshare._formerly(hall.stores["b"].root))
        hall.stores["b"].delete("web")
        await asyncio.sleep(7)
        assert hall.stores["b"].list() == []
        image = other.get("web")
        assert isinstance(image, AwayImage)
        assert (image.id, image.manifest is not None) == (web.id, True)
        with pytest.raises(ImageElsewhere, match="image web comes from a"):
            other.need(image)
        await until(lambda: bool(hall.stores["b"].list()))
        other.need(other.get("web"))


async def test_a_name_means_the_newest_image_of_it_on_any_server(hall: Hall, tmp_path: Path) -> None:
    old = hall.stores["b"].add(disk(tmp_path / "old.raw", b"o"), name="web")
    hall.stores["b"]._edit(old, created="2020-01-01T00:00:00Z")
    new = hall.stores["a"].add(disk(tmp_path / "new.raw", b"n"), name="web")
    other = hall.images("b")
    async with kept(hall.images("a"), other):
        await until(lambda: other.get("web").id == new.id)
        await until(lambda: len(hall.stores["b"].list()) == 2)
    assert hall.stores["b"].get("web").id == new.id
    assert hall.stores["b"].get(old.id).name.startswith("web@")


async def test_an_image_that_is_not_what_it_says_is_refused_with_the_reason(hall: Hall, tmp_path: Path) -> None:
    web = hall.stores["a"].add(disk(tmp_path / "web.raw", b"w"), name="web")
    with (web.dir / "image.zst").open("r+b") as file:
        file.seek(10)
        file.write(b"\xff\xff")
    other = hall.images("b")
    async with kept(hall.images("a"), other):
        await until(lambda: bool(other._failed))
        with pytest.raises(ImageElsewhere, match=r"cannot be fetched from there: web: chunk 0 .* is damaged") as told:
            other.need(other.get("web"))
    assert told.value.failed
    assert "copy" in told.value.fix
    assert hall.stores["b"].list() == []


async def test_a_server_that_stops_does_not_fetch_to_the_end(
    hall: Hall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Boot, "pause_s", 1.0)
    monkeypatch.setattr(peer, "BLOCK", 1 << 16)
    raw = tmp_path / "web.raw"
    raw.write_bytes(os.urandom(510) + b"\x55\xaa" + os.urandom((6 << 20) - 512))
    hall.stores["a"].add(raw, name="web")
    other = hall.images("b")
    async with kept(hall.images("a"), other):
        await until(lambda: bool(other._progress))
        assert list(hall.stores["b"].root.glob(".*/image.zst"))
    await until(lambda: not list(hall.stores["b"].root.glob(".*/image.zst")), 90)  # all of it would take as long
    assert hall.stores["b"].list() == []


async def delete(hall: Hall, name: str, images: SharedImages, ref: str) -> None:
    """As the API does it (api/native/misc.py)."""
    image, store = images.get(ref), hall.clusters[name].store
    assert store is not None
    now = store.read(servers.now)
    await store.write(lambda c: imagegone.remember(c, image, "test", name, now))
    images.delete(image.id)


async def test_a_deleted_image_goes_everywhere_and_may_be_added_again(hall: Hall, tmp_path: Path) -> None:
    raw = disk(tmp_path / "web.raw", b"w")
    hall.stores["a"].add(raw, name="web")
    one, other = hall.images("a"), hall.images("b")
    async with kept(one, other):
        await until(lambda: [on for _, on in one.everywhere()] == [("a", "b")])
        assert [on for _, on in other.everywhere()] == [("a", "b")]
        await delete(hall, "b", other, "web")
        await until(lambda: not hall.stores["a"].list())
        await asyncio.sleep(4)
        assert (hall.stores["a"].list(), hall.stores["b"].list()) == ([], [])
        assert (one.everywhere(), other.everywhere()) == ([], [])
        hall.stores["a"].add(raw, name="web")
        await until(lambda: [on for _, on in other.everywhere()] == [("a", "b")])


async def test_a_server_that_was_down_drops_what_was_deleted_meanwhile(hall: Hall, tmp_path: Path) -> None:
    hall.stores["a"].add(disk(tmp_path / "web.raw", b"w"), name="web")
    one = hall.images("a")
    async with kept(one, hall.images("b")):
        await until(lambda: [on for _, on in one.everywhere()] == [("a", "b")])
    await delete(hall, "a", one, "web")
    assert len(hall.stores["b"].list()) == 1
    async with kept(hall.images("b")):
        await until(lambda: not hall.stores["b"].list())


async def test_an_image_that_was_added_again_while_its_server_was_down_is_kept(hall: Hall, tmp_path: Path) -> None:
    """It was deleted on a meanwhile: what an operator added since, here and by hand, is no leftover."""
    raw = disk(tmp_path / "web.raw", b"w")
    hall.stores["a"].add(raw, name="web")
    one = hall.images("a")
    async with kept(one, hall.images("b")):
        await until(lambda: [on for _, on in one.everywhere()] == [("a", "b")])
    await delete(hall, "a", one, "web")
    before = hall.stores["b"].get("web").created
    while hall.stores["b"].add(raw, name="web").created == before:  # noqa: ASYNC110 (stamps are of whole seconds)
        await asyncio.sleep(0.3)
    other = hall.images("b")
    async with kept(one, other):
        await until(lambda: [on for _, on in other.everywhere()] == [("a", "b")])


async def test_tags_and_properties_are_those_that_were_changed_last(hall: Hall, tmp_path: Path) -> None:
    web = hall.stores["a"].add(disk(tmp_path / "web.raw", b"w"), name="web")
    async with kept(hall.images("a"), hall.images("b")):
        await until(lambda: bool(hall.stores["b"].list()))
        hall.stores["b"]._edit(hall.stores["b"].get("web"), edited="2020-01-01T00:00:00Z", tags=["old"])
        hall.stores["a"].tag("web", "stable")
        await until(lambda: hall.stores["b"].get("web").tags == ("stable",))
        await asyncio.sleep(1.1)  # stamps are of whole seconds
        hall.stores["b"].tag("web", "next")
        await until(lambda: hall.stores["a"].get("web").tags == ("next", "stable"))
    assert hall.stores["a"].get("next").id == web.id


def test_what_the_server_is_to_delete_belongs_to_the_servers_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root adds for others")
    (tmp_path / "images").mkdir()
    os.chown(tmp_path / "images", 65534, 65534)
    image = ImageStore(tmp_path / "images", signing_key=make_key(tmp_path)).add(
        disk(tmp_path / "web.raw", b"w"), name="web"
    )
    assert {path.stat().st_uid for path in (image.dir, *image.dir.iterdir())} == {65534}
