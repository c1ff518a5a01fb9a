"""One QEMU machine before our servers, in a network namespace of its own; started by test_firmware.py.

    unshare --net python rig.py '{"firmware": "ovmf", "purpose": "ramdisk", …}'

Prints one JSON line for each thing seen: {"at", "what", …}. Ends when `until` was seen, or after `seconds`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from baremetal.boot import ipxe
from baremetal.boot.decide import Urls, decide
from baremetal.bootplane.state import State
from baremetal.model.boot import BootRecord, Purpose
from baremetal.model.network import Network
from baremetal.protocol.plane import Snapshot
from baremetal.serve.dhcp import DhcpServer
from baremetal.serve.grubtree import GrubTree
from baremetal.serve.loaders import LoaderTree, read_loaders, read_templates
from baremetal.serve.ra import RouterAdvertiser
from baremetal.serve.tftp import TftpServer

MAC, SERVER = "52:54:00:00:00:01", "192.168.90.1"
NETWORK = Network("prov", "prov0", "192.168.90.0/24", SERVER, "192.168.90.100", "192.168.90.200", ra_prefix="fd90::/64")
LINKS = (
    "ip link set lo up",
    "ip link add prov0 type bridge stp_state 0 forward_delay 0",
    f"ip address add {SERVER}/24 dev prov0",
    "ip link set prov0 up",
    "ip tuntap add tap0 mode tap",
    "ip link set tap0 master prov0 up",
)
OVMF = "/usr/share/OVMF/OVMF_{part}_4M{keys}.fd"


def machine(ask: dict[str, Any], scratch: Path) -> list[str]:
    """QEMU's command line; `keys` ".ms": Microsoft's are enrolled, secure boot is on."""
    uefi, keys = ask["firmware"].startswith("ovmf"), ask.get("keys", "")
    rom = ",romfile=" if uefi else ""  # without iPXE's ROM the firmware's own stack boots
    smm = ",smm=on" if keys else ""
    (scratch / "disk").write_bytes(bytes(1 << 20))
    argv = ["qemu-system-x86_64", "-machine", f"q35,smbus=off,graphics=off{smm}", "-accel", "tcg,thread=multi"]
    argv += ["-cpu", "qemu64", "-m", "768", "-nodefaults", "-display", "none", "-vga", "none", "-monitor", "none"]
    argv += ["-uuid", "4c4c4544-0000-4000-8000-000000000001", "-action", "reboot=shutdown"]
    argv += ["-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no"]
    argv += ["-device", f"virtio-net-pci,netdev=n0,mac={MAC},bootindex=1{rom}"]
    argv += [
        "-drive",
        f"file={scratch}/disk,if=none,id=d0,format=raw",
        "-device",
        "virtio-blk-pci,drive=d0,bootindex=2",
    ]
    argv += ["-device", "virtio-rng-pci", "-serial", f"file:{scratch}/serial"]
    if ask["firmware"] == "ovmf-http":
        for stack in ("IPv4PXESupport", "IPv6PXESupport"):
            argv += ["-fw_cfg", f"name=opt/org.tianocore/{stack},string=n"]
    if uefi:
        shutil.copy(OVMF.format(part="VARS", keys=keys), scratch / "vars")
        code = OVMF.format(part="CODE", keys=keys)
        argv += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"]
        argv += ["-drive", f"if=pflash,format=raw,unit=1,file={scratch}/vars"]
    if keys:
        argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return argv


def console_of(serial: Path) -> str:
    """What the machine printed so far."""
    return serial.read_text(errors="replace") if serial.exists() else ""


class Rig:
    def __init__(self, ask: dict[str, Any]) -> None:
        self.ask = ask
        self.began = time.monotonic()
        self.over = asyncio.Event()
        self.urls = Urls(http=f"http://{SERVER}:8080", loaders=read_loaders())
        self.templates = read_templates()
        files = {name: ask[name] for name in ("kernel", "initrd") if name in ask}
        self.artifacts = {n: {"path": p, "size": Path(p).stat().st_size, "sha256": "00" * 32} for n, p in files.items()}
        self.record = BootRecord(
            "id1", "n1", (MAC,), None, Purpose(ask["purpose"]), "testing", boot_id="b1", address="192.168.90.20",
            kernel="kernel", initrd="initrd", cmdline="console=ttyS0", secure_boot=ask.get("secure", False),
        )  # fmt: skip

    def say(self, what: str, **more: Any) -> None:
        """What comes while the machine is already being ended (GRUB has read its script to the end) is not told."""
        if self.over.is_set():
            return
        print(json.dumps({"at": round(time.monotonic() - self.began, 1), "what": what, **more}), flush=True)
        if what == self.ask["until"]:
            self.over.set()

    def event(self, event: dict[str, Any]) -> None:
        self.say(event["kind"], **event["body"])

    def note(self, kind: str, _node: str | None, body: dict[str, Any]) -> None:
        self.say(kind, **body)

    async def script(self, request: web.Request) -> web.Response:
        values = {
            "http": self.urls.http,
            "https": f"https://{SERVER}:8443",
            "nonce": "n",
            "script_url": self.urls.script_for(MAC),
        }
        text = ipxe.render(self.templates[ipxe.template_name(self.record)], self.record, values)
        self.say("script-sent", path=request.path)
        return web.Response(text=text)

    async def loader(self, request: web.Request) -> web.StreamResponse:
        file = self.urls.loaders.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        self.say("loader-sent", name=file.name, via="http", method=request.method)
        return web.FileResponse(file.path)

    async def serve(self) -> None:
        app = web.Application()
        app.router.add_get("/boot/{name}", self.script)
        app.router.add_get("/loaders/{name}", self.loader)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, SERVER, 8080).start()
        loaders, state = LoaderTree(self.urls.loaders), State()
        view = {
            "node": "id1",
            "name": "n1",
            "boot": asdict(self.record) | {"purpose": str(self.record.purpose)},
            "nonce_key": "00" * 32,
        }
        state.load(1, Snapshot(nodes=[view], artifacts=self.artifacts))
        dhcp = DhcpServer(NETWORK, functools.partial(decide, urls=self.urls), self.event, None)
        dhcp.update([self.record])
        dhcp.start()
        tree = GrubTree(loaders, state, self, self.templates, f"https://{SERVER}:8443")
        TftpServer(SERVER, 69, tree, self.event, interface="prov0").start()
        RouterAdvertiser(NETWORK, self.event).start()

    async def watch(self, serial: Path) -> None:
        """`until` may also be words of the console."""
        wanted = self.ask["until"].removeprefix("console:")
        while not self.over.is_set():
            await asyncio.sleep(0.5)
            if wanted in console_of(serial):
                self.say(self.ask["until"])

    async def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="boot-rig-") as name:
            scratch = Path(name)
            await self.serve()
            qemu = await asyncio.create_subprocess_exec(*machine(self.ask, scratch))
            watcher = asyncio.create_task(self.watch(scratch / "serial"))
            try:
                await asyncio.wait_for(self.over.wait(), self.ask["seconds"])
            except TimeoutError:
                self.say("timeout", console=console_of(scratch / "serial")[-2000:])
            finally:
                watcher.cancel()
                qemu.kill()
                await qemu.wait()


if __name__ == "__main__":
    for command in LINKS:
        subprocess.run(command.split(), check=True)
    asyncio.run(Rig(json.loads(sys.argv[1])).run())
