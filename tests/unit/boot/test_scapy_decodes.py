"""scapy reads every kind of packet we send, and understands what we meant: a decoder that shares no line with ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr
from scapy.layers.l2 import Ether
from scapy.layers.tftp import TFTP, TFTP_DATA, TFTP_ERROR, TFTP_OACK, TFTP_RRQ

from baremetal.wire import nd
from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.dhcp4.frame import BROADCAST_IP, BROADCAST_MAC, Framer
from baremetal.wire.tftp import packet as t
from baremetal.wire.tftp.blocks import Blocks, PageCache
from baremetal.wire.tftp.transfer import Transfer, negotiate

A = "52:54:00:00:00:01"
SERVER = "10.0.0.1"


def decoded(raw: bytes) -> tuple[BOOTP, dict[str, Any]]:
    bootp = BOOTP(raw)
    options = bootp[DHCP].options if DHCP in bootp else []
    return bootp, {o[0]: o[1] if len(o) == 2 else o[1:] for o in options if isinstance(o, tuple)}


def ask(rig: Any, kind: int, options: dict[int, bytes], **fields: Any) -> tuple[BOOTP, dict[str, Any]]:
    assert rig.ask(kind, A, options, **fields) is not None
    return decoded(rig.sent[0])


@pytest.mark.parametrize(
    ("client", "file"),
    [
        ("uefi", b"snponly.efi"),
        ("bios", b"undionly.kpxe"),
        ("ipxe", b"http://10.0.0.1:8080/boot/52-54-00-00-00-01.ipxe"),
        ("plain", b""),
    ],
)
def test_offer_and_ack(rig: Any, clients: Any, client: str, file: bytes) -> None:
    bootp, options = ask(rig, p.DISCOVER, clients[client])
    assert (bootp.op, bootp.yiaddr, bootp.file.rstrip(b"\0"), options["message-type"]) == (2, "10.0.0.100", file, 2)
    assert (options["server_id"], options["subnet_mask"], options["router"], options["lease_time"]) == (
        SERVER,
        "255.255.255.0",
        "10.0.0.254",
        3600,
    )
    assert bootp.siaddr == (SERVER if file else "0.0.0.0")
    bootp, options = ask(rig, p.REQUEST, {**clients[client], 50: p.packed("10.0.0.100"), 54: p.packed(SERVER)})
    assert (options["message-type"], bootp.yiaddr, bootp.chaddr[:6].hex(":")) == (5, "10.0.0.100", A)


def test_nak_inform_and_proxy(rig: Any, clients: Any, make_rig: Any, network: Any) -> None:
    bootp, options = ask(rig, p.REQUEST, {50: p.packed("192.168.7.7")})
    assert (options["message-type"], options["error_message"], bootp.yiaddr) == (
        6,
        b"192.168.7.7 is not on 10.0.0.0/24",
        "0.0.0.0",
    )
    bootp, options = ask(rig, p.INFORM, clients["plain"], ciaddr="10.0.0.77")
    assert (options["message-type"], bootp.ciaddr, "lease_time" in options) == (5, "10.0.0.77", False)
    _, options = ask(make_rig(replace(network, proxy=True)), p.DISCOVER, clients["uefi"])
    assert (options["vendor_class_id"], "lease_time" in options) == (b"PXEClient", False)


def test_named_options(make_rig: Any, network: Any) -> None:
    rig = make_rig(
        replace(
            network,
            options={"ntp-server": "10.0.0.7, 10.0.0.8", "domain-search": "a.example, b.example", "mtu": "9000"},
        )
    )
    _, options = ask(rig, p.DISCOVER, {55: bytes((1, 42, 119, 26, 12))})
    assert (options["NTP_server"], options["interface-mtu"]) == (("10.0.0.7", "10.0.0.8"), 9000)
    assert options["domain_search" if "domain_search" in options else 119]


@pytest.mark.parametrize("size", [300, 301, 547, 1200])
@pytest.mark.parametrize("to", [("52:54:00:00:00:01", "10.0.0.100"), (BROADCAST_MAC.hex(":"), "255.255.255.255")])
def test_frames_have_right_checksums(size: int, to: tuple[str, str]) -> None:
    made = Framer(bytes.fromhex("020000000001"), p.packed(SERVER), 67, 68)
    payload = bytes(i * 7 & 255 for i in range(size))
    raw = made.frame(bytes.fromhex(to[0].replace(":", "")), p.packed(to[1]), payload)
    frame = Ether(raw)
    assert (frame.dst, frame[IP].src, frame[IP].dst, frame[UDP].sport, frame[UDP].dport) == (
        to[0],
        SERVER,
        to[1],
        67,
        68,
    )
    sums = (frame[IP].chksum, frame[UDP].chksum)
    del frame[IP].chksum, frame[UDP].chksum
    again = Ether(bytes(frame))
    assert (again[IP].chksum, again[UDP].chksum) == sums
    assert bytes(again) == raw
    if frame.dst == BROADCAST_MAC.hex(":"):
        assert made.broadcast(payload) == raw
        assert p.packed(to[1]) == BROADCAST_IP


def test_tftp_packets() -> None:
    content = bytes(range(256)) * 10
    request = t.parse_request(t.request("snponly.efi", options={"tsize": "0", "blksize": "1468", "windowsize": "4"}))
    terms = negotiate(request, len(content), 1468)
    run = Transfer(Blocks("f", len(content), terms.blksize, lambda o, n: content[o : o + n], PageCache()), terms, 0.0)
    oack = TFTP(run.first())
    assert [(o.oname, o.value) for o in oack[TFTP_OACK].payload.options] == [
        (b"tsize", b"2560"),
        (b"blksize", b"1468"),
        (b"windowsize", b"4"),
    ]
    out = run.receive(t.ack(0), 0.1)
    assert out is not None
    first = TFTP(out[: run.segment])
    assert (first[TFTP_DATA].block, bytes(first[TFTP_DATA].payload)) == (1, content[:1468])
    assert TFTP(t.error(1, "no file x"))[TFTP_ERROR].errormsg == b"no file x"
    assert TFTP(t.request("x"))[TFTP_RRQ].filename == b"x"


def test_router_advertisement() -> None:
    ra = ICMPv6ND_RA(nd.advertisement("fd90:0:0:1::/64", bytes.fromhex("020000000001")))
    assert (ra.routerlifetime, ra.M, ra.O) == (0, 0, 0)
    prefix = ra[ICMPv6NDOptPrefixInfo]
    assert (prefix.prefix, prefix.prefixlen, prefix.L, prefix.A) == ("fd90:0:0:1::", 64, 1, 1)
    assert ra[ICMPv6NDOptSrcLLAddr].lladdr == "02:00:00:00:00:01"
    assert nd.parse_advertisement(bytes(ra)) == nd.Advertisement(0, ("fd90:0:0:1::/64",))
