"""What real firmware sent, and what we make of it. Captures: tests/data/boot, named by firmware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.utils import rdpcap

from baremetal.wire import pxe
from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.tftp.packet import parse_request

DATA = Path(__file__).parents[2] / "data" / "boot"


def udp(name: str, port: int) -> list[bytes]:
    packets = rdpcap(str(DATA / name))
    return [bytes(x[UDP].payload) for x in packets if UDP in x and x[UDP].dport == port]


UUID = "4c4c4544-0000-4000-8000-"
ROWS = [
    # capture                        arch        loader, in the order first seen
    ("bios-e1000-rom.pcap", [("bios", "ipxe")]),
    ("bios-e1000e-rom.pcap", [("bios", "ipxe")]),
    ("bios-virtio-rom.pcap", [("bios", "ipxe")]),
    ("bios-virtio-rom-ra.pcap", [("bios", "ipxe")]),
    ("bios-undionly-chain.pcap", [("bios", "ipxe")]),
    ("uefi-e1000-ipxerom.pcap", [("uefi-x64", "ipxe")]),
    ("uefi-virtio-ipxerom.pcap", [("uefi-x64", "ipxe")]),
    ("uefi-ovmf-snponly.pcap", [("uefi-x64", "firmware"), ("uefi-x64", "ipxe")]),
]


@pytest.mark.parametrize(("name", "expected"), ROWS)
def test_who_asks(name: str, expected: list[tuple[str, str]]) -> None:
    asked = [p.parse(raw) for raw in udp(name, 67)]
    booting = [pxe.client(q.options, q.mac) for q in asked if 93 in q.options]
    assert list(dict.fromkeys((str(c.arch), str(c.loader)) for c in booting)) == expected
    assert all((c.uuid or "").startswith(UUID) for c in booting)


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_every_request_of_real_firmware_is_answered(name: str, make_rig: Any, network: Any) -> None:
    rig = make_rig(network)
    for raw in udp(name, 67):
        question = p.parse(raw)
        if question.type == p.DISCOVER:
            assert p.parse(rig.server.receive(raw, 0.0)[0]).type == p.OFFER


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_what_we_parse_we_build_again(name: str) -> None:
    for port in (67, 68):
        for raw in udp(name, port):
            packet = p.parse(raw)
            assert p.parse(p.build(packet)) == packet


def test_ovmf_asks_for_the_size_first() -> None:
    requests = [parse_request(raw) for raw in udp("uefi-ovmf-snponly.pcap", 69)]
    assert requests[0].options == {"tsize": "0", "blksize": "1468", "windowsize": "4"}
    assert requests[1].options == {"blksize": "1468", "windowsize": "4"}


def test_ipxe_asks_with_size_and_block_size() -> None:
    assert parse_request(udp("bios-undionly-chain.pcap", 69)[0]).options == {"blksize": "1432", "tsize": "0"}
