"""Ten agents (processes) stream one image from the real boot plane over one narrow link: fair shares, own progress.

Server and nodes live in network namespaces of their own; the server's end of the wire is shaped to RATE.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from baremetal.bootplane.app import make_apps
from baremetal.bootplane.copy import SnapshotCopy
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.state import State
from baremetal.protocol.plane import Snapshot
from baremetal.serve.http import Listener
from baremetal.serve.loaders import read_templates

pytestmark = pytest.mark.integration
NODES, MIB = 10, 1 << 20
SIZE, CHUNK = 24 * MIB, 1 * MIB
RATE = "320mbit"  # 40 MB/s: the wire is the bottleneck, not the processors
ADDRESS = "10.211.10.1"
KEY = Ed25519PrivateKey.generate()
# One node: the agent's own installer onto a disk that is a file; it prints its progress as the reporter would send it.
NODE = """
import json, sys, time
from baremetal.agents import installer
from baremetal.agents.disks import Disk
from baremetal.agents.http import Client
order, path, size, key = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), bytes.fromhex(sys.argv[4])
disk = Disk(name="disk", path=path, size=size, serial="S")
def progress(stage, done, total, unit):
    print(json.dumps([time.monotonic(), stage, done, total]), flush=True)
print("ready", flush=True)
sys.stdin.readline()
report = installer.write_image(order, installer.Site(Client, key, lambda: [disk], progress))
print(json.dumps(report), flush=True)
"""


def store(folder: Path) -> None:
    """An image of bytes that do not compress, as the image store keeps one."""
    folder.mkdir()
    lib = ctypes.CDLL("libzstd.so.1")
    lib.ZSTD_compress.restype = ctypes.c_size_t
    lib.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    out = ctypes.create_string_buffer(CHUNK + 8192)
    chunks: list[dict[str, Any]] = []
    at = 0
    with (folder / "image.zst").open("wb") as f:
        for _ in range(SIZE // CHUNK):
            part = os.urandom(CHUNK)
            length = lib.ZSTD_compress(out, len(out), part, len(part), 1)
            frame = out.raw[:length]
            chunks.append({"offset": at, "zsize": len(frame), "sha256": hashlib.sha256(frame).hexdigest()})
            at += f.write(frame)
    doc = {"id": "sha256:" + "ab" * 32, "name": "web", "raw_size": SIZE, "chunk_size": CHUNK, "zst_size": at}
    text = json.dumps({**doc, "chunks": chunks, "properties": {}}).encode()
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.sig").write_bytes(base64.b64encode(KEY.sign(text)))


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def wire() -> Iterator[tuple[str, str]]:
    """Names of two namespaces with a wire between them: the server's and the nodes'."""
    mark = f"bmten{os.getpid()}"
    server, nodes = f"{mark}s", f"{mark}n"
    ip("netns", "add", server)
    ip("netns", "add", nodes)
    try:
        ip("-n", server, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", nodes)
        for space, address in ((server, ADDRESS), (nodes, "10.211.10.2")):
            ip("-n", space, "addr", "add", f"{address}/24", "dev", "wire")
            ip("-n", space, "link", "set", "wire", "up")
        shape = ["tc", "-n", server, "qdisc", "add", "dev", "wire", "root", "tbf", "rate", RATE, "burst", "256kb"]
        subprocess.run([*shape, "latency", "20ms"], check=True)
        yield server, nodes
    finally:
        ip("netns", "del", server)
        ip("netns", "del", nodes)


def listening_in(space: str) -> socket.socket:
    """A listening socket of that namespace, made by a thread that steps into it."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(f"/run/netns/{space}") as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.create_server((ADDRESS, 8080)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    made[0].setblocking(False)
    return made[0]


@pytest.fixture
def plane(tmp_path: Path, wire: tuple[str, str], share_mib_s: int) -> Iterator[str]:
    """The boot plane's HTTP side in a thread of its own; its URL. `share_mib_s`: the setting http_mib_s."""
    store(tmp_path / "image")
    state = State()
    state.load(1, Snapshot(images={"ab" * 32: str(tmp_path / "image")}))
    loop = asyncio.new_event_loop()
    sock = listening_in(wire[0])
    up = threading.Event()

    async def serve() -> None:
        link = Link(
            tmp_path / "none.sock", state, Spool(tmp_path / "spool"), SnapshotCopy(tmp_path / "copy", bytes(32))
        )
        limit = share_mib_s << 20
        apps = make_apps(state, link, templates=read_templates(), loaders={}, https_port=8443, download_bytes_s=limit)
        await Listener(apps.http, connections=100, quick=apps.quick).start([sock])
        up.set()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(serve(), loop)
    assert up.wait(10)
    yield f"http://{ADDRESS}:8080"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


# By itself the server paces all of them a little above an even share (bootplane/shares.py).
# With http_mib_s a little under the wire's 38 MiB/s the server gives each its turn.
FAIR = [(0, 1.5), (36, 1.5)]  # http_mib_s, how much later than the first the last may be done
TRIES = 4  # a processor that something else holds makes a node late; TCP alone gave 1.7 to 5


def stream(base: str, space: str, folder: Path) -> list[list[list[Any]]]:
    """What each of ten nodes told of its progress while it wrote the image: [seconds, stage, done, total], …"""
    order = json.dumps(
        {"manifest_url": f"{base}/manifest.json", "signature_url": f"{base}/manifest.sig",
         "image_url": f"{base}/image.zst"}
    )  # fmt: skip
    folder.mkdir()
    nodes = []
    for n in range(NODES):
        path = folder / f"disk{n}"
        path.touch()
        os.truncate(path, 5 << 30)
        size, key = str(5 << 30), KEY.public_key().public_bytes_raw().hex()
        nodes.append(
            subprocess.Popen(
                ["ip", "netns", "exec", space, sys.executable, "-c", NODE, order, str(path), size, key],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    for node in nodes:
        assert node.stdout
        assert node.stdout.readline() == "ready\n", "all have imported what they need"
    told: list[list[Any]] = [[] for _ in nodes]

    def listen(n: int) -> None:
        told[n] += [json.loads(line) for line in nodes[n].stdout or ()]

    listeners = [threading.Thread(target=listen, args=(n,)) for n in range(NODES)]
    for listener, node in zip(listeners, nodes, strict=True):
        listener.start()
        assert node.stdin
        node.stdin.write("go\n")
        node.stdin.flush()
    for listener, node in zip(listeners, nodes, strict=True):
        listener.join(120)
        assert node.wait(10) == 0
    reports = [lines.pop() for lines in told]
    assert all(r["bytes"] == SIZE and r["resumed"] == 0 for r in reports)
    assert all(len(lines) > 10 for lines in told), "each tells how far it is"
    return told


@pytest.mark.parametrize(("share_mib_s", "most"), FAIR)
def test_ten_nodes_share_the_link_and_each_shows_its_own_progress(
    plane: str, wire: tuple[str, str], tmp_path: Path, most: float
) -> None:
    seen = []
    for attempt in range(TRIES):
        told = stream(f"{plane}/images/{'ab' * 32}", wire[1], tmp_path / str(attempt))
        began = min(lines[0][0] for lines in told)
        ends = sorted(round(lines[-1][0] - began, 2) for lines in told)
        if ends[-1] < most * ends[0]:
            return
        seen.append(ends)
    pytest.fail(f"the nodes were done after {seen} s")
