"""The boot plane alone, with a fixed boot table (hack/boot-fixture). It answers anybody: not for a real network."""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import web

from baremetal.boot import ipxe
from baremetal.boot.decide import Urls, decide
from baremetal.boot.loaders import LoaderTable
from baremetal.bootplane.files import send_file
from baremetal.errors import BaremetalError
from baremetal.model.network import Mode, Network
from baremetal.serve import collector
from baremetal.serve.dhcp import DhcpServer
from baremetal.serve.http import Listener
from baremetal.serve.listen import bind
from baremetal.serve.tftp import TftpServer

SERVER, SERVER6 = "10.77.0.1", "fd77::1"
LOADERS = """
["undionly.kpxe"]
role = "ipxe"
arch = "bios"
path = "/undionly.kpxe"
["ipxe.efi"]
role = "ipxe"
arch = "uefi-x64"
path = "/ipxe.efi"
["ipxe-arm64.efi"]
role = "ipxe"
arch = "uefi-arm64"
path = "/ipxe-arm64.efi"
["ipxe32.efi"]
role = "ipxe"
arch = "uefi-ia32"
path = "/ipxe32.efi"
"""


class DirectoryTree:
    """Files below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def get(self, name: str) -> Path | None:
        try:
            path = (self.root / name).resolve()
        except (OSError, ValueError):
            return None
        return path if path.is_relative_to(self.root) and path.is_file() else None


def network(interface: str, proxy: bool) -> Network:
    return Network(
        name="fixture",
        interface=interface,
        cidr="10.77.0.0/16",
        server=SERVER,
        range_first="10.77.16.1",
        range_last="10.77.199.254",
        router=SERVER,
        dns=(SERVER,),
        mode=Mode.ANYBODY,
        proxy=proxy,
        options={"rapid-commit": "on"},
    )


SCRIPT = """#!ipxe
set node {{ name|word }}
kernel http://boot/vmlinuz node={{ name|word }}
initrd http://boot/initrd
boot
"""


def script(path: str, _transport: object = None) -> str | None:
    """The script of /node/<n>."""
    name = path.removeprefix("/node/")
    return ipxe.render_values(SCRIPT, {"name": name}) if name != path else None


def http_app(tree: DirectoryTree) -> web.Application:
    async def small(request: web.Request) -> web.Response:
        return web.Response(text=script(request.path))

    async def file(request: web.Request) -> web.StreamResponse:
        path = tree.get(request.match_info["name"].lstrip("/"))
        if path is None:
            raise web.HTTPNotFound
        info = path.stat()
        return (await send_file(request, path, etag=f"{info.st_mtime_ns:x}-{info.st_size:x}")).response

    app = web.Application()
    app.router.add_get("/node/{n}", small)
    app.router.add_get("/{name:.*}", file)
    return app


async def run(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    collector.relax()
    tree = DirectoryTree(args.dir)
    net = network(args.interface, args.proxy)

    def tell(event: dict[str, Any]) -> None:
        if args.verbose:
            print(json.dumps(event), file=sys.stderr, flush=True)

    urls = Urls(
        http=f"http://{SERVER}", loaders=LoaderTable.parse(LOADERS), script="{http}/script.ipxe", loader="{http}/{name}"
    )
    answers = functools.partial(decide, urls=urls)
    with tempfile.TemporaryDirectory(prefix="boot-fixture-") as state:
        dhcp = DhcpServer(net, answers, tell, args.journal or Path(state) / "leases", probe=args.probe)
        servers: list[Any] = [dhcp]
        for address in (SERVER, SERVER6):
            servers.append(TftpServer(address, 69, tree, tell, interface=args.interface, per_client=4096))
        for server in servers[:2]:
            server.start(loop)
        try:
            servers[2].start(loop)
        except BaremetalError as exc:
            print(exc.brief, file=sys.stderr)
        listener = Listener(http_app(tree), connections=8192, quick=script)
        await listener.start([bind(SERVER, 8080)])
        stop = asyncio.Event()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, stop.set)
        await stop.wait()
        for server in servers:
            server.close()
        await listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="boot-fixture", description=__doc__)
    parser.add_argument("dir", type=Path)
    parser.add_argument("interface")
    parser.add_argument("--proxy", action="store_true", help="beside a foreign DHCP server: boot answers only")
    parser.add_argument("--journal", type=Path, help="lease journal (default: a temporary one)")
    parser.add_argument("--probe", action="store_true", help="look for other DHCP servers first")
    parser.add_argument("--verbose", action="store_true", help="every event as a line of JSON")
    args = parser.parse_args()
    try:
        asyncio.run(run(args))
    except BaremetalError as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
