"""What Debian's signed GRUB reads by TFTP on its way to a signed kernel.

    shimx64.efi -> grubx64.efi -> grub/grub.cfg -> boot/<mac>.grub -> artifacts/<kernel>, artifacts/<initrd>

The signed GRUB speaks no HTTP, and secure boot forbids to load the module.
Scripts carry the same one-time nonce as iPXE's (bootplane/firmware.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from baremetal.boot import ipxe
from baremetal.bootplane.seldom import Seldom, Share
from baremetal.bootplane.state import Entry, State
from baremetal.model.boot import Purpose
from baremetal.protocol import nonce
from baremetal.serve.loaders import LoaderTree

CONFIG = b"set timeout=0\nconfigfile /boot/$net_default_mac.grub\n"
RAMDISK, LEAVE = "ramdisk.grub.j2", "leave.grub.j2"
_SCRIPT = re.compile(r"boot/((?:[0-9a-f]{2}:){5}[0-9a-f]{2})\.grub")


class Link(Protocol):
    """Where messages for control go."""

    def note(self, kind: str, node: str | None, body: dict[str, Any], /) -> None: ...


class GrubTree:
    """The loaders, and beside them what GRUB asks for. `https` is where agents are sent."""

    def __init__(self, loaders: LoaderTree, state: State, link: Link, templates: Mapping[str, str], https: str) -> None:
        self._loaders, self._state, self._link, self._templates, self._https = loaders, state, link, templates, https
        self._alarms, self._scripts = Seldom(), Share(60, 1.0)
        self._serials: dict[str, int] = {}

    def get(self, name: str) -> bytes | Path | None:
        """The file of this name; None: no such name."""
        if name == "grub/grub.cfg":
            return CONFIG
        if name.startswith("artifacts/"):
            found = self._state.artifact(name.removeprefix("artifacts/"))
            return Path(found["path"]) if found is not None else None
        asked = _SCRIPT.fullmatch(name)
        if asked is not None:
            return self._script(asked[1]).encode()
        return self._loaders.get(name)

    def _script(self, mac: str) -> str:
        entry = self._state.by_mac(mac)
        standing = self._state.standing
        values = {"mac": mac, "mac_hyphens": mac.replace(":", "-"), "https": standing.agents_from(self._https)}
        if not standing.good():
            return self._leave({**values, "name": mac, "because": "this server cannot reach the database"})
        if entry is None:
            return self._leave({**values, "name": mac, "because": "no node has this MAC address"})
        record = entry.record
        values = {**ipxe.values_of(record, mac), **values}
        if record.purpose is not Purpose.RAMDISK:
            return self._leave(values)
        if not (record.kernel and record.initrd and record.boot_id):
            return self._leave({**values, "because": f"{record.because}; but no ramdisk is there yet"})
        return self._ramdisk(entry, values)

    def _ramdisk(self, entry: Entry, values: dict[str, str]) -> str:
        view, record = entry.view, entry.record
        if view.nonce_key is None:
            # The agent of this boot has said hello already: a second nonce would let a neighbour in.
            if times := self._alarms.due(view.node):
                why = f"boot script fetched again after hello, {times} times"
                self._link.note("refused", view.node, {"what": "script", "why": why, "source": values["mac"]})
            return self._leave({**values, "because": "this boot has begun already"})
        assert record.boot_id is not None
        last = self._serials.get(view.node, 0)
        fresh = not last or self._scripts.take(view.node)
        serial = self._serials[view.node] = max(int(self._state.standing.time() * 1000), last + 1) if fresh else last
        word = nonce.make(view.nonce_key, view.node, record.boot_id, serial)
        text = ipxe.render_values(self._templates[RAMDISK], {**values, "nonce": word})
        if fresh:
            self._link.note("script-sent", view.node, {"nonce_id": f"{serial:x}", "boot_id": record.boot_id})
        return text

    def _leave(self, values: Mapping[str, str]) -> str:
        return ipxe.render_values(self._templates[LEAVE], values)
