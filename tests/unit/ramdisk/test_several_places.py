"""An image that lies at several servers: what breaks off at one goes on at the next, what is wrong at one is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import installer
from baremetal.agents.disks import Disk
from baremetal.agents.http import Client, Url
from baremetal.agents.trouble import DownloadFailed, ImageChunkCorrupt, NodeTrouble

MIB = 1 << 20
AWAY = "http://127.0.0.1:9"  # nobody listens there


class Node:
    """A disk, and the places its image is fetched from."""

    def __init__(self, tmp_path: Path, server: Any, key: bytes) -> None:
        self.server, self.path = server, tmp_path / "disk"
        self.path.write_bytes(b"\xa5" * (8 * MIB))
        disk = Disk("vda", str(self.path), 8 * MIB, serial="S1")
        self.site = installer.Site(self.connect, key, lambda: [disk], lambda *step: None, give_up_s=2.0)

    def connect(self, url: str) -> Client:
        parts = Url.parse(url)
        base = f"{'https' if parts.secure else 'http'}://{parts.netloc}"
        return Client(base, ca_file=str(self.server.ca_file), timeout_s=5)

    def write(self, image: Any, *places: str) -> dict[str, Any]:
        urls = {**self.server.put_image(image), "root_device": {"serial": "S1"}, "image_urls": list(places)}
        return installer.write_image(urls, self.site)

    def holds(self, image: Any) -> bool:
        return self.path.read_bytes()[MIB : len(image.raw)] == image.raw[MIB:]


@pytest.fixture
def node(tmp_path: Path, server: Any, public_key: bytes) -> Node:
    return Node(tmp_path, server, public_key)


def asked(node: Node, name: str) -> int:
    return sum(path == name for _, path, _ in node.server.requests)


def test_a_server_that_is_away_is_passed_over(node: Node, make_image: Any) -> None:
    image = make_image(os.urandom(3 * MIB))
    node.write(image, f"{AWAY}/i/image.zst", f"{node.server.http_url}/i/image.zst")
    assert node.holds(image)


def test_a_stream_that_breaks_goes_on_at_the_next_server_where_it_stopped(node: Node, make_image: Any) -> None:
    image = make_image(os.urandom(3 * MIB))
    node.server.files["/other/image.zst"] = image.zst
    places = [f"{node.server.http_url}/{folder}/image.zst" for folder in ("i", "other")]
    node.server.cut_at = [2 * MIB + 7]
    report = node.write(image, *places)
    assert (report["resumed"], node.holds(image)) == (1, True)
    second = next(headers for _, path, headers in node.server.requests if path == "/other/image.zst")
    assert int(second["Range"][6:-1]) > MIB, "it did not begin anew"


WRONG = {
    "has no such image": None,
    "has a shorter one": lambda zst: zst[:-100],
    "has other bytes": lambda zst: zst[:-50_000] + bytes(50_000),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("first", [True, False])
def test_a_server_that_has_it_wrong_is_left(node: Node, make_image: Any, what: str, first: bool) -> None:
    image = make_image(os.urandom(3 * MIB))
    change = WRONG[what]
    if change is not None:
        node.server.files["/bad/image.zst"] = change(image.zst)
    bad, good = (f"{node.server.http_url}/{folder}/image.zst" for folder in ("bad", "i"))
    node.server.cut_at = [] if first else [MIB]
    node.write(image, *((bad, good) if first else (good, bad)))
    assert node.holds(image)
    assert asked(node, "/bad/image.zst") <= 3


@pytest.mark.parametrize(
    ("damage", "kind"), [(None, DownloadFailed), (WRONG["has other bytes"], ImageChunkCorrupt)], ids=["none", "wrong"]
)
def test_nobody_has_it_right(node: Node, make_image: Any, damage: Any, kind: type[NodeTrouble]) -> None:
    image = make_image(os.urandom(3 * MIB))
    for name in ("x", "y") if damage else ():
        node.server.files[f"/{name}/image.zst"] = damage(image.zst)
    with pytest.raises(kind):
        node.write(image, *(f"{node.server.http_url}/{name}/image.zst" for name in ("x", "y")))
    assert node.path.read_bytes()[:MIB] == bytes(MIB), "it cannot boot"
