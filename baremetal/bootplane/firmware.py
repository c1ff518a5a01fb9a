"""What firmware and iPXE fetch over plain HTTP: boot scripts, loaders, kernels and ramdisks, images.

Nothing secret passes here but the one-time nonce in a boot script (the docs
say what that means on a hostile wire). A script is rendered when it is fetched.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aiohttp import web

from baremetal.boot import ipxe
from baremetal.bootplane.answers import HttpError
from baremetal.bootplane.files import Sent, send_file
from baremetal.bootplane.link import Link
from baremetal.bootplane.seldom import Seldom, Share
from baremetal.bootplane.state import Entry, State
from baremetal.bootplane.throttle import Throttle
from baremetal.model.boot import Purpose
from baremetal.protocol import nonce

log = logging.getLogger(__name__)

WAIT_TEMPLATE = "wait.ipxe.j2"
IMAGE_FILES = {
    "manifest.json": "application/json",
    "manifest.sig": "text/plain",
    "image.zst": "application/zstd",
    "kernel": "application/octet-stream",  # of a ramdisk: other servers of the site fetch both
    "initrd": "application/octet-stream",
    "pair.sig": "text/plain",
}
_MAC = re.compile(r"[0-9a-f]{2}(?:-[0-9a-f]{2}){5}")
_SCRIPT = re.compile(rf"/boot/({_MAC.pattern})\.ipxe")


class Tree(Protocol):
    """Names that TFTP and HTTP share (serve/loaders.py)."""

    def get(self, name: str, /) -> bytes | Path | None: ...


@dataclass
class Firmware:
    """Handlers of the plain HTTP side. `templates` by file name; `https_port` is what agents are sent to."""

    state: State
    link: Link
    templates: Mapping[str, str]
    loaders: Tree
    https_port: int
    throttle: Throttle = field(default_factory=Throttle)
    _serials: dict[str, int] = field(default_factory=dict)
    _alarms: Seldom = field(default_factory=Seldom)
    _scripts: Share = field(default_factory=lambda: Share(60, 1.0))

    async def script(self, request: web.Request) -> web.StreamResponse:
        """GET /boot/<mac-with-hyphens>.ipxe"""
        name = request.match_info["mac"].lower()
        if not _MAC.fullmatch(name):
            raise HttpError(404, "not-found", "a boot script is called <mac-with-hyphens>.ipxe")
        text = self._script(name, request.path, self._where(request.transport), request.method == "GET")
        return web.Response(text=text, content_type="text/plain", headers={"Cache-Control": "no-store"})

    def quick(self, path: str, transport: asyncio.Transport) -> str | None:
        """The same for quick.py: the script of this path, None when it is no script's."""
        match = _SCRIPT.fullmatch(path) if self.state.standing.good() else None
        return self._script(match[1], path, self._where(transport), fetched=True) if match else None

    def _script(self, name: str, path: str, where: dict[str, str], fetched: bool) -> str:
        mac = name.replace("-", ":")
        entry = self.state.by_mac(mac)
        where |= {"mac": mac, "mac_hyphens": name, "script_url": f"{where['http']}{path}"}
        try:
            return self._render(entry, where, fetched)
        except ipxe.ScriptError as exc:
            log.error("boot script of %s: %s", mac, exc)
            because = f"the server cannot render this script: {exc.brief}"
            return self._text(WAIT_TEMPLATE, entry, where | {"because": because})

    def _render(self, entry: Entry | None, where: dict[str, str], fetched: bool) -> str:
        if not self.state.standing.good():
            raise HttpError(503, "cut-off", "this server cannot reach the database: another one knows what to boot")
        if entry is None and not self.link.synced:
            return self._text(WAIT_TEMPLATE, None, where | {"because": "the server is starting"})
        if entry is None:
            because = "no node has this MAC address; enroll it, or open the network to unknown machines"
            return self._text(ipxe.UNKNOWN_TEMPLATE, None, where | {"because": because})
        record, view = entry.record, entry.view
        if record.purpose is not Purpose.RAMDISK:
            return self._text(ipxe.template_name(record), entry, where)
        if not (record.kernel and record.initrd and record.boot_id):
            because = f"{record.because}; but no ramdisk is there yet: baremetal image build deploy-ramdisk"
            return self._text(WAIT_TEMPLATE, entry, where | {"because": because})
        if view.nonce_key is None:
            # The agent of this boot has said hello already: a second nonce would let a neighbour in.
            if fetched and (times := self._alarms.due(f"{view.node} {where['client']}")):
                why = f"boot script fetched again after hello, {times} times"
                self.link.note("refused", view.node, {"what": "script", "why": why, "source": where["client"]})
            because = "this boot has begun already; waiting for the server to order another"
            return self._text(WAIT_TEMPLATE, entry, where | {"because": because})
        last, serial = self._serials.get(view.node), self._serial(view.node)
        word = nonce.make(view.nonce_key, view.node, record.boot_id, serial)
        text = self._text(ipxe.template_name(record), entry, where | {"nonce": word})
        if fetched and serial != last:
            self.link.note("script-sent", view.node, {"nonce_id": f"{serial:x}", "boot_id": record.boot_id})
        return text

    def _serial(self, node: str) -> int:
        """Milliseconds since 1970, always greater than the node's last; a flood of fetches gets the last one's."""
        last = self._serials.get(node, 0)
        if last and not self._scripts.take(node):
            return last
        serial = max(int(self.state.standing.time() * 1000), self._serials.get(node, 0) + 1)
        self._serials[node] = serial
        return serial

    def _text(self, template: str, entry: Entry | None, values: Mapping[str, str]) -> str:
        known = ipxe.values_of(entry.record, values["mac"]) if entry is not None else {"name": values["mac_hyphens"]}
        return ipxe.render_values(self.templates[template], {**known, **values})

    def _where(self, transport: asyncio.BaseTransport | None) -> dict[str, str]:
        """URLs by the address that the client reached us at: right on every network."""
        host, port = transport.get_extra_info("sockname")[:2] if transport else ("127.0.0.1", 0)
        peer = transport.get_extra_info("peername") if transport else None
        return {
            "http": f"http://{host}:{port}",
            "http_host": f"{host}:{port}",
            "https": self.state.standing.agents_from(f"https://{host}:{self.https_port}"),
            "client": str(peer[0]) if peer else "",
        }

    async def artifact(self, request: web.Request) -> web.StreamResponse:
        """GET /artifacts/<name>: kernel or ramdisk."""
        name = request.match_info["name"]
        found = self.state.artifact(name)
        if found is None:
            raise HttpError(404, "not-found", f"no artifact is called {name[:80]!r}")
        sent = await self._file(request, Path(found["path"]), str(found["sha256"]))
        self._sent("artifact-sent", request, name, sent)
        return sent.response

    async def loader(self, request: web.Request) -> web.StreamResponse:
        """GET /loaders/<name>: the same names as by TFTP."""
        name = request.match_info["name"]
        found = self.loaders.get(name)  # LoaderMissing says what to install
        if found is None:
            raise HttpError(404, "not-found", f"no loader is called {name[:80]!r}")
        if isinstance(found, bytes):
            response = web.Response(body=found, content_type="application/efi")
            self._sent("loader-sent", request, name, Sent(response, len(found), 0.0, request.method == "GET"))
            return response
        stat = os.stat(found)
        etag = f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
        sent = await self._file(request, found, etag, "application/efi")
        self._sent("loader-sent", request, name, sent)
        return sent.response

    async def image(self, request: web.Request) -> web.StreamResponse:
        """GET /images/<id>/{manifest.json,manifest.sig,image.zst}, or {kernel,initrd,pair.sig} of a ramdisk"""
        image_id, name = request.match_info["id"].removeprefix("sha256:"), request.match_info["name"]
        directory = self.state.image_dir(image_id)
        if directory is None or name not in IMAGE_FILES:
            raise HttpError(404, "not-found", f"no image file {image_id[:16]}/{name[:40]}")
        sent = await self._file(request, Path(directory) / name, f"{image_id}-{name}", IMAGE_FILES[name])
        return sent.response

    async def _file(
        self, request: web.Request, path: Path, etag: str, content_type: str = "application/octet-stream"
    ) -> Sent:
        try:
            return await send_file(request, path, etag=etag, content_type=content_type, throttle=self.throttle)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as exc:
            log.error("%s cannot be served: %s", path, exc)
            raise HttpError(
                404, "file-missing", f"{path.name} is not on the server's disk", fix="baremetal image verify"
            ) from exc

    def _sent(self, kind: str, request: web.Request, name: str, sent: Sent) -> None:
        if not sent.complete:
            return
        entry = self.state.by_address(request.remote or "")
        body = {"name": name, "bytes": sent.bytes, "seconds": round(sent.seconds, 3)}
        if kind == "loader-sent":
            body["via"] = "http"
        self.link.note(kind, entry.view.node if entry else None, body)
