"""What RFC 2131 and its relatives demand of a server, a row each: a message, and what must hold of the answer."""

# ruff: noqa: E501  (a table: one rule a row)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from baremetal.model.network import Network
from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.dhcp4.replies import Route

D, R, I, OURS = p.DISCOVER, p.REQUEST, p.INFORM, p.packed("10.0.0.1")  # noqa: E741
PRL = {55: bytes((1, 3, 6, 15, 28))}
UEFI = {
    93: b"\0\7",
    94: b"\1\3\0",
    60: b"PXEClient:Arch:00007:UNDI:003000",
    97: b"\0" + bytes(range(16)),
    57: b"\5\xc0",
}
HTTP = {**UEFI, 93: b"\0\x10", 60: b"HTTPClient:Arch:00016:UNDI:003001"}
MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
RELAY = {"giaddr": "10.1.0.254", "hops": 1}
Holds = Callable[[p.Packet, Any], object]


def has(**fields: Any) -> Holds:
    return lambda r, _rig: [(k, getattr(r, k), v) for k, v in fields.items() if getattr(r, k) != v] == []


def says(code: int, value: bytes) -> Holds:
    return lambda r, _rig: r.options.get(code) == value


def leaves_out(*codes: int) -> Holds:
    return lambda r, _rig: not set(codes) & set(r.options)


def travels(route: Route, address: str = "0.0.0.0") -> Holds:
    return lambda _r, rig: rig.sent[1] is route and rig.sent[2] == p.packed(address)


SILENT: Holds = lambda r, _rig: r is None  # noqa: E731

# section and level, kind, options, fields, what must hold
ANSWERS: list[tuple[str, int, dict[int, bytes], dict[str, Any], Holds]] = [
    ("2131 t3 MUST: OFFER keeps xid, htype, flags, chaddr", D, PRL, {"broadcast": True}, has(xid=1, htype=1, mac=MAC, broadcast=True)),
    ("2131 t3 MUST: secs, hops and ciaddr of an OFFER are 0", D, PRL, {"secs": 9}, has(secs=0, hops=0, ciaddr="0.0.0.0")),
    ("2131 t3 MUST: OFFER names the server", D, PRL, {}, says(54, OURS)),
    ("2131 t3 MUST NOT: an OFFER repeats 50, 55, 57", D, {**PRL, 50: p.packed("10.0.0.105"), 57: b"\5\xc0"}, {}, leaves_out(50, 55, 57)),
    ("2131 §4.3.1 SHOULD: the address asked for, when free", D, {50: p.packed("10.0.0.105")}, {}, has(yiaddr="10.0.0.105")),
    ("2131 §4.3.1 MUST NOT: an address outside the pool, though asked for", D, {50: p.packed("10.0.0.5")}, {}, has(yiaddr="10.0.0.100")),
    ("2131 §4.3.1 MUST NOT: the server's own address", D, {50: OURS}, {}, has(yiaddr="10.0.0.100")),
    ("2132 §9.1 robustness: a wish of 3 bytes is passed over", D, {50: b"\1\2\3"}, {}, has(yiaddr="10.0.0.100")),
    ("2131 §4.1 MUST: an odd broadcast flag travels to everybody", D, PRL, {"broadcast": True}, travels(Route.BROADCAST)),
    ("2131 §4.1: without it to the machine itself", D, PRL, {}, travels(Route.RAW, "10.0.0.100")),
    ("2131 §4.3.2 MUST: silence for another server's offer taken", R, {50: p.packed("10.0.0.100"), 54: p.packed("10.0.0.9")}, {}, SILENT),
    ("2131 §4.3.2 MUST: INIT-REBOOT nobody knows: silence", R, {50: p.packed("10.0.0.105")}, {}, SILENT),
    ("2131 §4.3.2 SHOULD: INIT-REBOOT on the wrong network: NAK", R, {50: p.packed("192.168.7.7")}, {}, has(type=p.NAK)),
    ("2131 t3 MUST: NAK has no addresses", R, {50: p.packed("192.168.7.7")}, {}, has(yiaddr="0.0.0.0", siaddr="0.0.0.0", ciaddr="0.0.0.0")),
    ("2131 t3 MUST NOT: NAK has no lease and no options of the network", R, {50: p.packed("192.168.7.7"), **PRL}, {}, leaves_out(51, 1, 3, 6)),
    ("2131 §4.1 MUST: NAK goes to everybody", R, {50: p.packed("192.168.7.7")}, {}, travels(Route.BROADCAST)),
    ("2131 §4.3.5 MUST NOT: INFORM gets no lease", I, PRL, {"ciaddr": "10.0.0.9"}, leaves_out(51, 58, 59)),
    ("2131 §4.3.5 MUST NOT: INFORM gets no address", I, PRL, {"ciaddr": "10.0.0.9"}, has(yiaddr="0.0.0.0", type=p.ACK)),
    ("2131 §4.3.5 MUST: INFORM is answered to ciaddr", I, PRL, {"ciaddr": "10.0.0.9"}, travels(Route.RAW, "10.0.0.9")),
    ("2131 t2: an unknown message type", 99, PRL, {}, SILENT),
    ("2131: an OFFER of somebody else", p.OFFER, PRL, {}, SILENT),
    ("2131 §2: what is shorter than 576 bytes fits every client", D, {**PRL, 57: b"\0\1"}, {}, lambda _r, rig: len(rig.sent[0]) <= 548),
    ("1542 §2.1: no reply is shorter than 300 bytes", D, {}, {}, lambda _r, rig: len(rig.sent[0]) >= 300),
    ("2132 §9.8 MUST: the mask stands before the router", D, {55: b"\3\1"}, {}, lambda r, _rig: list(r.options).index(1) < list(r.options).index(3)),
    ("2132 §9.8: what was not asked for is left out", D, {55: b"\1"}, {}, leaves_out(3, 6, 15, 28)),
    ("2131 §4.3.1: without a list, mask, router and DNS come", D, {}, {}, lambda r, _rig: {1, 3, 6} <= set(r.options)),
    ("6842 §3 MUST: the client id comes back", D, {61: b"\xffid"}, {}, says(61, b"\xffid")),
    ("6842 §3 MUST: in a NAK too", R, {61: b"\xffid", 50: p.packed("192.168.7.7")}, {}, says(61, b"\xffid")),
    ("3046 §2.2 SHALL: the relay's words come back, unknown ones too", D, {82: b"\x01\x02ab\xc8\x01z"}, RELAY, says(82, b"\x01\x02ab\xc8\x01z")),
    ("3046 §2.2 SHALL: a switch's words without a relay", D, {82: b"\x01\x02ab"}, {}, says(82, b"\x01\x02ab")),
    ("3046 §2.2 SHOULD: they stand last", D, {82: b"\x01\x02ab", 61: b"\1x"}, RELAY, lambda r, _rig: list(r.options)[-1] == 82),
    ("2131 §4.1 MUST: a relayed answer goes to the relay", D, PRL, RELAY, travels(Route.RELAY, "10.1.0.254")),
    ("2131 §4.1 MUST: giaddr comes back, the subnet is the relay's", D, PRL, RELAY, has(giaddr="10.1.0.254", yiaddr="10.1.0.100")),
    ("2131 §4.1 MUST: a relayed NAK has the broadcast flag", R, {50: p.packed("192.168.7.7")}, RELAY, has(type=p.NAK, broadcast=True)),
    ("1542 §4.1.1: many hops are no reason", D, PRL, {**RELAY, "hops": 16}, has(type=p.OFFER, hops=0)),
    ("2131 §4.3.1: a relay of a link nobody serves: silence", D, PRL, {"giaddr": "10.9.0.1"}, SILENT),
    ("3527 §3 MUST: the link the relay selects", D, {82: b"\x05\x04\x0a\x01\0\0"}, {"giaddr": "10.0.0.254"}, has(yiaddr="10.1.0.100")),
    ("3011 §2 MUST: the subnet the client selects", D, {118: p.packed("10.1.0.0")}, {}, has(yiaddr="10.1.0.100")),
    ("3011 §2 MUST: comes back", D, {118: p.packed("10.1.0.0")}, {}, says(118, p.packed("10.1.0.0"))),
    ("3011 §2 MUST NOT: an address of another subnet instead", D, {118: p.packed("10.9.0.0")}, {}, SILENT),
    ("5107 §4 MUST: the server id the relay wants", D, {82: b"\x0b\x04\x0a\x01\0\xfe"}, RELAY, says(54, p.packed("10.1.0.254"))),
    ("4578 §2.3 MUST: the UUID comes back", D, UEFI, {}, says(97, UEFI[97])),
    ("PXE 2.1 §2.1: the answer is marked as one for boot clients", D, UEFI, {}, says(60, b"PXEClient")),
    ("PXE 2.1: and only for them", D, PRL, {}, leaves_out(60, 43)),
    ("UEFI 2.10 §24.7: so is that for HTTP boot", D, HTTP, {}, says(60, b"HTTPClient")),
    ("UEFI 2.10 §24.7: a URL, not a name", D, HTTP, {}, lambda r, _rig: r.boot_file.startswith("http://10.0.0.1:8080/")),
    ("4390 §2.1 MUST: InfiniBand has no chaddr; everybody hears the answer", D, {61: b"\0" + bytes(20)}, {"htype": 32, "mac": ""}, travels(Route.BROADCAST)),
    ("4390 §2.1: without a client id it is nobody", D, {}, {"htype": 32, "mac": ""}, SILENT),
    ("951: BOOTP gets an address and no DHCP type", 0, {}, {}, lambda r, _rig: r.yiaddr == "10.0.0.100" and 53 not in r.options),
    ("1534 §2 MUST NOT: BOOTP gets no lease time", 0, {}, {}, leaves_out(51, 58, 59)),
]  # fmt: skip


@pytest.fixture
def two(make_rig: Any, network: Network) -> Any:
    far = replace(network, name="far", cidr="10.1.0.0/24", range_first="10.1.0.100", range_last="10.1.0.109")
    return make_rig(network, replace(far, router="10.1.0.254"))


@pytest.mark.parametrize(("rule", "kind", "options", "fields", "holds"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_answer(
    two: Any, rule: str, kind: int, options: dict[int, bytes], fields: dict[str, Any], holds: Holds
) -> None:
    fields = dict(fields)
    reply = two.ask(kind, fields.pop("mac", MAC), options, **fields)
    assert holds(reply, two), (rule, reply)


def test_a_wish_of_another_subnet_is_not_mixed_up(two: Any) -> None:
    """2131 §4.3.1: one machine on two links has a lease on each."""
    here, there = two.lease(), two.ask(D, MAC, UEFI, **RELAY)
    assert (here.yiaddr, there.yiaddr) == ("10.0.0.100", "10.1.0.100")


def test_renewing_is_answered_to_the_client_and_keeps_ciaddr(two: Any) -> None:
    """2131 §4.3.2 and table 3."""
    address = two.lease().yiaddr
    ack = two.ask(R, MAC, UEFI, ciaddr=address)
    assert (ack.type, ack.ciaddr, ack.yiaddr, two.sent[2]) == (p.ACK, address, address, p.packed(address))


def test_a_lease_lasts_as_long_as_it_was_said(two: Any) -> None:
    """2131 §4.3.1 MUST NOT: another machine gets it meanwhile."""
    first = two.lease()
    left_s = int.from_bytes(first.options[51], "big")
    two.now += left_s - 1
    assert {two.lease(f"52:54:00:00:01:{n:02x}").yiaddr for n in range(9)}.isdisjoint({first.yiaddr})
    assert two.ask(D, "52:54:00:00:02:00", PRL) is None  # the pool of ten is empty, and nothing is lied about
    two.now += 2
    assert two.lease("52:54:00:00:02:00").yiaddr == first.yiaddr


def test_a_declined_address_is_left_alone_and_told_of(two: Any) -> None:
    """2131 §4.3.3 MUST."""
    first = two.lease().yiaddr
    assert two.ask(p.DECLINE, MAC, {50: p.packed(first), 54: OURS}) is None
    assert two.lease().yiaddr != first
    assert "in use by somebody else" in two.events("refused")[-1]["why"]


def test_release_needs_no_answer_and_frees_the_address(two: Any) -> None:
    """2131 §4.3.4."""
    first = two.lease().yiaddr
    assert two.ask(p.RELEASE, MAC, {54: OURS}, ciaddr=first) is None
    assert two.ask(D, OTHER, {50: p.packed(first)}).yiaddr == first


def test_release_to_another_server_is_not_ours(two: Any) -> None:
    first = two.lease().yiaddr
    two.ask(p.RELEASE, MAC, {54: p.packed("10.0.0.9")}, ciaddr=first)
    assert two.ask(D, OTHER, {50: p.packed(first)}).yiaddr != first


def test_the_chosen_menu_item_comes_back(make_rig: Any, network: Network) -> None:
    """PXE 2.1 §2.2.6: tag 71 of option 43, on port 4011."""
    rig = make_rig(replace(network, proxy=True))
    asked = {53: b"\3", **UEFI, 43: b"\x47\x04\0\1\0\0\xff"}
    reply = rig.server.receive_boot(p.build(p.Packet(1, 1, 5, MAC, ciaddr="10.0.0.9", options=asked)), 1.0)
    assert p.sub_options(p.parse(reply).options[43]) == {6: b"\x08", 71: b"\0\1\0\0"}
