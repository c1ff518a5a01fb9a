"""From a build to a machine's disk: store, signed manifest, frames over HTTP, the deploy ramdisk's own writer.

The disk is a file full of a last tenant's data, larger than the image. Needs
root (the build), sgdisk, e2fsprogs.
"""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from baremetal.agents import installer
from baremetal.agents.disks import Disk as Drive
from baremetal.agents.http import Client, Url
from baremetal.images import builder, manifest
from baremetal.images.definition import Definition, Disk
from baremetal.images.store import ImageStore

pytestmark = pytest.mark.integration
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"
MIB = 1 << 20


class Ranged(http.server.SimpleHTTPRequestHandler):
    """Files of a directory, from any byte on."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        body = Path(self.translate_path(self.path)).read_bytes()
        span = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(span[1]), int(span[2] or len(body) - 1)) if span else (0, len(body) - 1)
        part = body[first : last + 1]
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "images").mkdir()
    handler = functools.partial(Ranged, directory=str(tmp_path / "images"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_what_was_built_is_what_the_disk_holds(tmp_path: Path, served: str, kind: str) -> None:
    wanted = Definition("little", ("host-os", "greet"), formats=("raw", "qcow2"), disk=Disk(extra_bytes=8 * MIB))
    options = builder.Options(cache=tmp_path / "c", elements_path=(ELEMENTS,), offline=True, epoch="1735689600")
    built = builder.build(wanted, options)
    raw = (built.directory / "little.raw").read_bytes()
    key = manifest.make_key(tmp_path / "keys")
    store = ImageStore(tmp_path / "images", signing_key=key)
    image = store.add(built.directory / f"little.{kind}", name="little")

    disk = tmp_path / "disk"
    size = len(raw) + 64 * MIB
    disk.write_bytes(b"\xa5" * size)
    drive = Drive("vda", str(disk), size, serial="S1")
    site = installer.Site(
        lambda url: Client(f"http://{Url.parse(url).netloc}", timeout_s=120),
        bytes.fromhex(manifest.public_hex(key)),
        lambda: [drive],
        lambda stage, done, total, unit: None,
    )
    place = f"{served}/{image.dir.name}"
    order = {"manifest_url": f"{place}/manifest.json", "signature_url": f"{place}/manifest.sig"}
    report = installer.write_image(
        {**order, "image_url": f"{place}/image.zst", "image_id": image.id, "root_device": {"serial": "S1"}}, site
    )

    assert report["image"] == image.id
    assert report["received"] < len(raw)  # frames of zeros were not fetched
    written = disk.read_bytes()
    root = 34 * MIB  # the table in front is adapted to the larger disk, partitions are as they were built
    assert written[MIB : len(raw) - 34 * 512] == raw[MIB : len(raw) - 34 * 512]
    subprocess.run(["sgdisk", "-v", str(disk)], check=True, capture_output=True)
    subprocess.run(["e2fsck", "-fn", f"{disk}?offset={root}"], check=True, capture_output=True)
    cat = ["debugfs", "-R", "cat /etc/greeting", f"{disk}?offset={root}"]
    assert subprocess.run(cat, check=True, capture_output=True).stdout == b"hello\nname=nobody\n"
