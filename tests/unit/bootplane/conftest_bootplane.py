"""A boot plane on loopback and unix sockets: the real link to the real plane link; only the inbox is a recorder."""

import asyncio
import dataclasses
import hashlib
import os
import socket
from types import SimpleNamespace

import aiohttp
import pytest

from baremetal.api.planelink import PlaneLink
from baremetal.bootplane.app import make_apps
from baremetal.bootplane.copy import SnapshotCopy
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.state import State
from baremetal.errors import Denied
from baremetal.model.boot import BootRecord, Purpose
from baremetal.protocol.plane import MAX_FRAME, NodeView, Snapshot
from baremetal.serve.http import Listener
from baremetal.serve.loaders import read_templates

MAC = "52:54:00:00:00:01"
KEY = bytes(32)
NONCE_KEY = "11" * 32


def sha(token):
    return hashlib.sha256(token.encode()).hexdigest()


def view(node="n1", purpose=Purpose.RAMDISK, **more):
    record = BootRecord(
        node_id=node,
        name=f"name-{node}",
        macs=(MAC,) if node == "n1" else (f"52:54:00:00:00:{node[1:]:>02}",),
        uuid=None,
        purpose=purpose,
        because="inspect needs the ramdisk",
        boot_id="b1",
        address="127.0.0.1" if node == "n1" else None,
        kernel="vmlinuz",
        initrd="initrd",
        cmdline="console=ttyS0",
    )
    record = dataclasses.replace(record, **more.pop("record", {}))
    return NodeView(node=node, name=record.name, boot=dataclasses.asdict(record), **more)


class Control:
    """The control plane's end: PlaneLink over a unix socket, and an inbox that keeps what comes."""

    def __init__(self, path):
        self.path, self.version, self.seen, self.calls = path, 1, [], []
        self.snapshot = Snapshot()
        self.answer = {"token": "t" * 64, "node": "n1", "name": "x", "boot_id": "b1", "poll_s": 30}
        self.link = PlaneLink(self, lambda: self.snapshot, lambda: self.version)
        self.server = None

    async def start(self):
        self.path.unlink(missing_ok=True)
        self.server = await asyncio.start_unix_server(self.link.handle, str(self.path), limit=MAX_FRAME + 1)

    async def stop(self):
        self.server.close()
        for peer in list(self.link._peers):
            peer.close()
        await self.server.wait_closed()

    async def messages(self, batch):
        self.seen += batch

    async def call(self, kind, body):
        self.calls.append((kind, body))
        if body["hello"]["nonce"] == "bad":
            raise Denied("no such nonce", fix="boot again")
        return self.answer

    def push(self, *views, gone=()):
        self.version += 1
        self.link.push(list(views), list(gone))


@pytest.fixture
async def rig(tmp_path):
    """Boot plane and control plane, connected, with one node that wants the ramdisk."""
    artifact = tmp_path / "vmlinuz"
    artifact.write_bytes(bytes(range(256)) * 4096)
    image = tmp_path / "image"
    image.mkdir()
    (image / "manifest.json").write_text("{}")
    (image / "image.zst").write_bytes(os.urandom(100_000))
    control = Control(tmp_path / "plane.sock")
    control.snapshot = Snapshot(
        nodes=[view(nonce_key=NONCE_KEY).to_json()],
        artifacts={"vmlinuz": {"path": str(artifact), "size": 1048576, "sha256": "aa" * 32}},
        images={"ab" * 32: str(image)},
    )
    await control.start()
    state, spool = State(), Spool(tmp_path / "spool.jsonl")
    link = Link(control.path, state, spool, SnapshotCopy(tmp_path / "snapshot", KEY))
    task = asyncio.create_task(link.run())
    apps = make_apps(state, link, templates=read_templates(), loaders={"small.efi": b"MZ"}, https_port=8443)
    listeners, urls = [], []
    for app, quick in ((apps.http, apps.quick), (apps.https, None)):
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        listeners.append(Listener(app, connections=100, quick=quick))
        await listeners[-1].start([sock])
        urls.append(f"http://127.0.0.1:{sock.getsockname()[1]}")
    session = aiohttp.ClientSession()
    rig = SimpleNamespace(
        control=control, state=state, link=link, spool=spool, http=urls[0], https=urls[1] + "/agent/v1",
        session=session, apps=apps, artifact=artifact, image=image,
    )  # fmt: skip
    await until(lambda: link.synced)
    yield rig
    await session.close()
    task.cancel()
    for listener in listeners:
        await listener.close()
    await link.close()
    await control.stop()


async def until(condition, seconds=60.0):
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
