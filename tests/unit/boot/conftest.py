"""A DHCP rig without sockets: a clock, a network, nodes, and clients that send what real ones send."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest

from baremetal.boot.decide import Urls, decide
from baremetal.model.boot import BootRecord, Purpose
from baremetal.model.network import Mode, Network
from baremetal.serve.loaders import read_loaders
from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.dhcp4.server import Sent, Server

NETWORK = Network(
    "prov", "eth0", "10.0.0.0/24", "10.0.0.1", "10.0.0.100", "10.0.0.109",
    router="10.0.0.254", dns=("10.0.0.1", "10.0.0.2"), domain="lab.example", mode=Mode.ANYBODY,
)  # fmt: skip
PXE = {
    93: b"\0\7", 94: b"\1\3\0", 60: b"PXEClient:Arch:00007:UNDI:003000", 57: b"\5\xc0", 97: b"\0" + bytes(range(16)),
    55: bytes((1, 3, 6, 12, 15, 43, 51, 54, 58, 59, 60, 66, 67, 97, 128)),
}  # fmt: skip
BIOS = {**PXE, 93: b"\0\0", 60: b"PXEClient:Arch:00000:UNDI:002001"}
IPXE = {**PXE, 77: b"iPXE", 175: bytes.fromhex("b105011af41000eb03010000")}
PLAIN = {55: bytes((1, 3, 6, 12, 15, 28, 42))}


class Rig:
    """`ask` sends one message and returns what came back, decoded."""

    def __init__(self, *networks: Network) -> None:
        urls = Urls(http="http://10.0.0.1:8080", loaders=read_loaders())
        self.server = Server(networks or (NETWORK,), functools.partial(decide, urls=urls))
        self.now = 1_000_000.0
        self.sent: Sent | None = None
        self._xid = 0

    def ask(
        self, kind: int, mac: str = "52:54:00:00:00:01", options: dict[int, bytes] | None = None, **fields: Any
    ) -> p.Packet | None:
        self._xid += 1
        head = {53: bytes((kind,))} if kind else {}
        question = p.Packet(
            p.BOOTREQUEST, fields.pop("htype", 1), self._xid, mac, options={**head, **(options or {})}, **fields
        )
        self.sent = self.server.receive(p.build(question), self.now)
        return p.parse(self.sent[0]) if self.sent else None

    def lease(self, mac: str = "52:54:00:00:00:01", options: dict[int, bytes] | None = None) -> p.Packet:
        """DISCOVER, OFFER, REQUEST, ACK."""
        offer = self.ask(p.DISCOVER, mac, options or PXE)
        assert offer is not None
        ack = self.ask(p.REQUEST, mac, {**(options or PXE), 50: p.packed(offer.yiaddr), 54: offer.options[54]})
        assert ack is not None
        assert ack.type == p.ACK
        return ack

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e["body"] for e in self.server.events if e["kind"] == kind]


def node(name: str = "r1", mac: str = "52:54:00:00:00:01", **fields: Any) -> BootRecord:
    base = BootRecord(f"id-{name}", name, (mac,), None, Purpose.RAMDISK, "inspecting", address="10.0.0.20")
    return replace(base, **fields)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def known_rig() -> Rig:
    """Known machines only; one node with a fixed address."""
    made = Rig(replace(NETWORK, mode=Mode.KNOWN))
    made.server.update([node()])
    return made


@pytest.fixture
def make_rig() -> type[Rig]:
    return Rig


@pytest.fixture
def make_node() -> Any:
    return node


@pytest.fixture
def clients() -> dict[str, dict[int, bytes]]:
    return {"uefi": PXE, "bios": BIOS, "ipxe": IPXE, "plain": PLAIN}


@pytest.fixture
def network() -> Network:
    return NETWORK
