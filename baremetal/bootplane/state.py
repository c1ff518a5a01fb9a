"""What the boot plane knows: the last snapshot, as look-up tables. Pure; opens nothing.

Control pushes a whole Snapshot when the link comes up, then single NodeViews.
Everything a node may ask is answered from here, so it is answered while control
is away too. Tokens are known by their SHA-256 only: looking up the hash of what
was sent takes the same time whatever was sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from baremetal.bootplane.standing import Standing
from baremetal.model.boot import BootRecord, Purpose
from baremetal.model.network import Mode, Network
from baremetal.protocol.agent import INSTANCE, RAMDISK
from baremetal.protocol.plane import NodeView, Snapshot

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
MAX_LEASES = 65_536
Changed = Callable[["Change"], None]


@dataclass(frozen=True)
class Entry:
    """One node: the view as pushed, its boot record read."""

    view: NodeView
    record: BootRecord


@dataclass(frozen=True)
class Who:
    """Whom a token belongs to. `agent` is RAMDISK or INSTANCE."""

    entry: Entry
    agent: str

    @property
    def node(self) -> str:
        return self.entry.view.node


@dataclass(frozen=True)
class Change:
    """What a push changed: nodes that are new or other, ids that are gone, or everything."""

    nodes: tuple[Entry, ...]
    gone: tuple[str, ...]
    whole: bool


class State:
    """The tables. `version` is control's; 0 means that nothing is known yet."""

    def __init__(self, standing: Standing | None = None) -> None:
        self.standing = standing or Standing()
        self.version = 0
        self.snapshot = Snapshot()
        self.networks: tuple[Network, ...] = ()
        self.nodes: dict[str, Entry] = {}
        self._by_mac: dict[str, Entry] = {}
        self._by_token: dict[str, Who] = {}
        self._by_address: dict[str, Entry] = {}
        self._leases: dict[str, str] = {}
        self._listeners: list[Changed] = []

    def listen(self, changed: Changed) -> None:
        """Call `changed` after every push (on the loop, synchronously)."""
        self._listeners.append(changed)

    def load(self, version: int, snapshot: Snapshot) -> None:
        """Replace everything."""
        self.version, self.snapshot = version, snapshot
        self.networks = tuple(network_of(doc) for doc in snapshot.networks)
        self.nodes, self._by_mac, self._by_token, self._by_address = {}, {}, {}, {}
        for doc in snapshot.nodes:
            self._put(NodeView.from_json(doc))
        self._tell(Change(tuple(self.nodes.values()), (), whole=True))

    def change(self, version: int, views: Iterable[NodeView], gone: Iterable[str]) -> None:
        """Replace some nodes."""
        self.version = version
        gone = tuple(gone)
        for node in gone:
            self._forget(node)
        entries = tuple(self._put(view) for view in views)
        self._tell(Change(entries, gone, whole=False))

    def by_mac(self, mac: str) -> Entry | None:
        return self._by_mac.get(mac)

    def by_address(self, address: str) -> Entry | None:
        """By the fixed address that control gave the node, or by the lease it took last."""
        found = self._by_address.get(address)
        return found if found is not None else self._by_mac.get(self._leases.get(address, ""))

    def leased(self, address: str, mac: str) -> None:
        """DHCP gave this address to this MAC."""
        self._leases.pop(address, None)
        self._leases[address] = mac
        if len(self._leases) > MAX_LEASES:
            del self._leases[next(iter(self._leases))]

    def by_token(self, token: str) -> Who | None:
        return self._by_token.get(hashlib.sha256(token.encode()).hexdigest())

    def artifact(self, name: str) -> Mapping[str, Any] | None:
        """{"path", "size", "sha256"} of a public name; no other file can be named."""
        return self.snapshot.artifacts.get(name)

    def image_dir(self, image_id: str) -> str | None:
        return self.snapshot.images.get(image_id) or self.snapshot.images.get(f"sha256:{image_id}")

    def to_snapshot(self) -> Snapshot:
        """All of it as one document again, for the copy on disk."""
        nodes = [entry.view.to_json() for entry in self.nodes.values()]
        return Snapshot(self.snapshot.networks, nodes, self.snapshot.artifacts, self.snapshot.images)

    def _put(self, view: NodeView) -> Entry:
        self._forget(view.node)
        entry = Entry(view, record_of(view.boot))
        self.nodes[view.node] = entry
        for mac in entry.record.macs:
            self._by_mac[mac] = entry
        if entry.record.address:
            self._by_address[entry.record.address] = entry
        if view.ramdisk_token_sha256:
            self._by_token[view.ramdisk_token_sha256] = Who(entry, RAMDISK)
        if view.instance_token_sha256:
            self._by_token[view.instance_token_sha256] = Who(entry, INSTANCE)
        return entry

    def _forget(self, node: str) -> None:
        old = self.nodes.pop(node, None)
        if old is None:
            return
        for mac in old.record.macs:
            if self._by_mac.get(mac) is old:
                del self._by_mac[mac]
        if old.record.address and self._by_address.get(old.record.address) is old:
            del self._by_address[old.record.address]
        for token in (old.view.ramdisk_token_sha256, old.view.instance_token_sha256):
            if token:
                self._by_token.pop(token, None)

    def _tell(self, change: Change) -> None:
        for changed in self._listeners:
            changed(change)


def record_of(doc: Mapping[str, Any]) -> BootRecord:
    """A BootRecord from its JSON; unknown fields are ignored."""
    known = {key: doc[key] for key in BootRecord.__dataclass_fields__ if key in doc}
    macs = [str(mac).lower() for mac in doc.get("macs") or ()]
    known["macs"] = tuple(mac for mac in macs if _MAC.fullmatch(mac))  # one odd node must not stop all others
    known["purpose"] = Purpose(doc["purpose"])
    return BootRecord(**known)


def network_of(doc: Mapping[str, Any]) -> Network:
    """A Network from its JSON; unknown fields are ignored."""
    known = {key: doc[key] for key in Network.__dataclass_fields__ if key in doc}
    known["dns"] = tuple(doc.get("dns") or ())
    known["mode"] = Mode(doc.get("mode", Mode.KNOWN))
    return Network(**known)
