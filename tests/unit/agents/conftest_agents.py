"""A boot plane with TLS on loopback in a thread of its own, and agents as processes in front of it."""

import asyncio
import base64
import dataclasses
import hashlib
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from baremetal.api.planelink import PlaneLink
from baremetal.bootplane.app import make_apps
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.state import State
from baremetal.errors import Denied
from baremetal.model.boot import BootRecord, Purpose
from baremetal.protocol import configdrive
from baremetal.protocol.plane import MAX_FRAME, NodeView, Snapshot
from baremetal.serve import tls

REPO = Path(__file__).parents[3]
NODE = "0b0e6f0a-0000-4000-8000-000000000001"
TOKEN = "5e" * 32
NONCE = "the-only-nonce"


class Key:
    """A metadata signing key."""

    def __init__(self):
        self._key = Ed25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, raw):
        return base64.b64encode(self._key.sign(raw)).decode()


class Server:
    """The real boot plane and plane link; only the inbox is the test's own: it keeps what comes."""

    def __init__(self, directory):
        self.directory = directory
        self.key = Key()
        tls.make_ca(directory)
        tls.make_server(directory, ["127.0.0.1"])
        self.ca_pem = (directory / "ca.pem").read_text()
        self.received, self.hellos, self.version = [], [], 1
        self.snapshot = Snapshot(nodes=[self.view(None).to_json()])
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()
        assert self._up.wait(60)

    # what control would know

    def view(self, metadata, token=TOKEN):
        record = BootRecord(
            node_id=NODE,
            name="r1-u07",
            macs=("52:54:00:00:00:01",),
            uuid=None,
            purpose=Purpose.DISK,
            because="active",
            address="127.0.0.1",
        )
        digest = hashlib.sha256(token.encode()).hexdigest()
        return NodeView(NODE, "r1-u07", dataclasses.asdict(record), instance_token_sha256=digest, metadata=metadata)

    def document(self, generation, values, deployments=(), **more):
        fields = {"schema": 1, "node": NODE, "metadata_generation": generation, "values": values}
        return json.dumps({**fields, "deployments": list(deployments), **more}, indent=1).encode()

    def publish(self, generation, values, deployments=(), raw=None, signature=None):
        raw = raw if raw is not None else self.document(generation, values, deployments)
        entry = {"generation": generation, "document": raw.decode(), "signature": signature or self.key.sign(raw)}
        self.push(self.view(entry))

    def push(self, view):
        def now():
            self.version += 1
            self.plane.push([view], [])

        self.loop.call_soon_threadsafe(now)

    def reports(self):
        return [m.body["report"] for m in list(self.received) if m.kind == "config-report"]

    def drive(self, **more):
        agent = {
            "urls": [f"https://127.0.0.1:{self.port}"],
            "ca_pem": self.ca_pem,
            "nonce": NONCE,
            "node": NODE,
            "name": "r1-u07",
            "metadata_public_key": self.key.public,
            **more.pop("agent", {}),
        }
        files = {"baremetal/agent.json": json.dumps(agent).encode()}
        files["ec2/latest/meta-data.json"] = json.dumps({"local-hostname": "r1-u07"}).encode()
        files["openstack/latest/meta_data.json"] = json.dumps({"hostname": "r1-u07"}).encode()
        return configdrive.build(files | more)

    # the thread

    def _main(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._start())
        self._up.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _start(self):
        path = self.directory / "plane.sock"
        self.plane = PlaneLink(self, lambda: self.snapshot, lambda: self.version)
        self._control = await asyncio.start_unix_server(self.plane.handle, str(path), limit=MAX_FRAME + 1)
        self.state = State()
        self._link = Link(path, self.state, Spool(self.directory / "spool.jsonl"))
        self._task = asyncio.create_task(self._link.run())
        await self._listen()
        while not self._link.synced:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def _listen(self):
        apps = make_apps(self.state, self._link, templates={}, loaders={}, https_port=8443)
        self._runner = web.AppRunner(apps.https, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "server.pem", self.directory / "server.key")
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context)
        await self._site.start()
        self.port = self._site._server.sockets[0].getsockname()[1]
        self._plain = web.AppRunner(apps.http, shutdown_timeout=0.1)
        await self._plain.setup()
        plain = web.TCPSite(self._plain, "127.0.0.1", 0)
        await plain.start()
        self.http_port = plain._server.sockets[0].getsockname()[1]

    def vanish(self):
        """No more answers, and open connections break."""
        for runner in (self._runner, self._plain):
            asyncio.run_coroutine_threadsafe(runner.cleanup(), self.loop).result(60)

    def come_back(self):
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(60)

    async def _end(self):
        self._task.cancel()
        await self._runner.cleanup()
        await self._plain.cleanup()
        await self._link.close()
        for peer in list(self.plane._peers):
            peer.close()
        self._control.close()
        await asyncio.sleep(0.01)  # the peers' tasks end

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    # the inbox

    async def messages(self, batch):
        self.received += batch

    async def call(self, kind, body):
        self.hellos.append(body["hello"])
        if body["hello"]["nonce"] != NONCE:
            raise Denied("this nonce is not valid")
        return {"token": TOKEN, "node": NODE, "name": "r1-u07", "boot_id": "d1", "poll_s": 30}


class Machine:
    """Directories of one node: templates, phases, state, what is written."""

    def __init__(self, directory):
        self.directory = directory
        for name in ("templates", "out", "phases"):
            (directory / name).mkdir()
        self.process = None

    def template(self, path, text, mode=0o644):
        target = self.directory / "templates" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def script(self, path, text):
        target = self.directory / "phases" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("#!/bin/bash\nset -eu\n" + text)
        target.chmod(0o755)

    def out(self, path):
        return (self.directory / "out" / path).read_text()

    def arguments(self):
        d = self.directory
        names = {
            "--state": "state",
            "--templates": "templates",
            "--output": "out",
            "--cachedir": "cache",
            "--phases": "phases",
        }
        pairs = [part for option, name in names.items() for part in (option, str(d / name))]
        return [*pairs, "--config-drive", str(d / "drive.iso")]

    def start(self, drive=None):
        if drive is not None:
            (self.directory / "drive.iso").write_bytes(drive)
        command = [sys.executable, "-m", "baremetal.agents", "run", *self.arguments()]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=REPO, stderr=log, env=clean_environment())

    def stop(self, number=15):
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def log(self):
        return (self.directory / "log").read_text()

    def agent(self, verb, *arguments):
        command = [sys.executable, "-m", "baremetal.agents", verb, *arguments]
        return subprocess.run(command, cwd=REPO, capture_output=True, text=True, env=clean_environment())


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("OS_", "BAREMETAL_"))}


def until(condition, what, seconds=120.0):
    """Wait for something to become true; the value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"waited in vain: {what() if callable(what) else what}")
