"""The link is lost at any byte: in the TLS handshake, in a status line, in headers, in a frame. It heals."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import installer
from baremetal.agents.disks import Disk
from baremetal.agents.http import Client, ServerUnreachable, Url

MIB = 1 << 20


class Wire:
    """Carries connections to a port; the n-th is cut after `cuts[n]` bytes from the server, later ones never."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.cuts, self.made, self._port = cuts, 0, port
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                limit = self.cuts[self.made] if self.made < len(self.cuts) else None
                self.made += 1
                threading.Thread(target=self._carry, args=(near, limit), daemon=True).start()

    def _carry(self, near: socket.socket, limit: int | None) -> None:
        with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self._port)) as far:
            threading.Thread(target=_pour, args=(near, far, None), daemon=True).start()
            _pour(far, near, limit)
            near.shutdown(socket.SHUT_RDWR)


def _pour(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    with contextlib.suppress(OSError):
        while limit != 0:
            data = source.recv(65536 if limit is None else min(limit, 65536))
            if not data:
                return
            target.sendall(data)
            limit = limit if limit is None else limit - len(data)


@pytest.fixture
def wires() -> Iterator[list[Wire]]:
    made: list[Wire] = []
    yield made
    for wire in made:
        wire.close()


def through(wires: list[Wire], url: str, cuts: list[int]) -> str:
    """The URL by way of a wire that is cut."""
    parts = Url.parse(url)
    port = int(parts.netloc.rpartition(":")[2])
    wires.append(Wire(port, cuts))
    return url.replace(f":{port}/", f":{wires[-1].port}/")


# Where the image's connections are cut: status line, headers, around their end (about 150 bytes), early and late in
# frames, twice at the same place.
IMAGE = [0, 1, 12, 60, 149, 150, 151, 152, 400_000, 3, 262_144, 262_500, 80, 700_001, 700_001]
# The manifest's and its signature's, over TLS: in the handshake (about 1 kB), in the manifest.
MANIFEST = [0, 1, 7, 90, 400, 800, 1200, 1500, 1900]


def test_an_image_arrives_whole_however_the_link_is_cut(
    server: Any, make_image: Any, public_key: bytes, wires: list[Wire], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baremetal.agents.fetch.jitter", lambda: 0.02)
    monkeypatch.setattr("baremetal.agents.http.jitter", lambda: 0.02)
    image = make_image(os.urandom(4 * MIB))
    urls = server.put_image(image)
    urls["image_url"] = through(wires, urls["image_url"], IMAGE)
    for name in ("manifest_url", "signature_url"):
        urls[name] = through(wires, urls[name], MANIFEST[: -4 if name == "signature_url" else None])
    path = tmp_path / "disk"
    path.write_bytes(b"\xa5" * (8 * MIB))
    disk = Disk("vda", str(path), 8 * MIB, serial="S1")
    site = installer.Site(connect(server), public_key, lambda: [disk], lambda *step: None)
    installer.write_image({**urls, "root_device": {"serial": "S1"}}, site)
    assert path.read_bytes()[: len(image.raw)] == image.raw
    assert [wire.made > len(wire.cuts) for wire in wires] == [True, True, True], "every cut was met"


def connect(server: Any) -> Any:
    def make(url: str) -> Client:
        parts = Url.parse(url)
        base = f"{'https' if parts.secure else 'http'}://{parts.netloc}"
        return Client(base, ca_file=str(server.ca_file) if parts.secure else None, timeout_s=5)

    return make


@pytest.mark.parametrize("cut", range(200))
def test_an_answer_cut_anywhere_is_an_absent_server(server: Any, wires: list[Wire], cut: int) -> None:
    """Not a bad answer: what is absent is asked again, what is bad is not."""
    server.files["/x"] = b"y" * 120
    url = through(wires, server.http_url + "/x", [cut] * 3)
    client = connect(server)(url)
    whole = 0
    try:
        answer = client.request("GET", "/x")
        whole = len(answer.body)
    except ServerUnreachable:
        whole = -1
    finally:
        client.close()
    assert whole in (-1, 120)
