"""RFC 2131 as a server must follow it, one rule a test. The rig is in conftest.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from baremetal.model.boot import Purpose
from baremetal.model.network import Mode, Network
from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.dhcp4.server import Route

A, B = "52:54:00:00:00:01", "52:54:00:00:00:02"


def test_an_offer_says_all_a_client_needs(rig: Any, clients: Any) -> None:
    offer = rig.ask(p.DISCOVER, A, clients["uefi"])
    assert (offer.type, offer.yiaddr, offer.siaddr, offer.boot_file) == (
        p.OFFER,
        "10.0.0.100",
        "10.0.0.1",
        "snponly.efi",
    )
    assert offer.options[54] == p.packed("10.0.0.1")
    assert int.from_bytes(offer.options[51], "big") == 3600
    assert (offer.options[1], offer.options[3]) == (p.packed("255.255.255.0"), p.packed("10.0.0.254"))
    assert offer.options[60] == b"PXEClient"
    assert offer.options[43] == b"\x06\x01\x08\xff"
    assert offer.options[97] == clients["uefi"][97]


def test_t1_is_half_and_t2_seven_eighths(rig: Any, clients: Any) -> None:
    offer = rig.ask(p.DISCOVER, A, clients["uefi"])
    assert int.from_bytes(offer.options[58], "big") == 1800
    assert int.from_bytes(offer.options[59], "big") == 3150


def test_the_mask_stands_before_the_router(rig: Any) -> None:
    offer = rig.ask(p.DISCOVER, A, {55: bytes((3, 1))})
    assert list(offer.options).index(1) < list(offer.options).index(3)


def test_only_what_was_asked_for_is_sent(rig: Any) -> None:
    offer = rig.ask(p.DISCOVER, A, {55: b"\x01\x03"})
    assert 6 not in offer.options
    assert 15 not in offer.options


def test_one_machine_keeps_its_address_from_firmware_to_operating_system(rig: Any, clients: Any) -> None:
    first = rig.lease(A, clients["uefi"])
    ipxe = rig.lease(A, {**clients["ipxe"], 61: b"\x01" + bytes.fromhex("525400000001")})
    os = rig.lease(A, {**clients["plain"], 61: b"\xff" + bytes(14)})
    assert first.yiaddr == ipxe.yiaddr == os.yiaddr


def test_ipxe_gets_its_script_and_need_not_wait_for_a_proxy(rig: Any, clients: Any) -> None:
    offer = rig.ask(p.DISCOVER, A, clients["ipxe"])
    assert offer.boot_file == "http://10.0.0.1:8080/boot/52-54-00-00-00-01.ipxe"
    assert offer.options[175] == b"\xb0\x01\x01"
    assert 43 not in offer.options


def test_two_ipxe_machines_get_their_own_scripts(rig: Any, clients: Any) -> None:
    assert rig.ask(p.DISCOVER, A, clients["ipxe"]).boot_file.endswith("52-54-00-00-00-01.ipxe")
    assert rig.ask(p.DISCOVER, B, clients["ipxe"]).boot_file.endswith("52-54-00-00-00-02.ipxe")


def test_a_plain_client_gets_no_boot_options(rig: Any, clients: Any) -> None:
    ack = rig.lease(A, clients["plain"])
    assert ack.boot_file == ""
    assert not {43, 60, 66, 67, 97, 175} & set(ack.options)


def test_no_two_machines_get_one_address(rig: Any, clients: Any) -> None:
    got = {rig.lease(f"52:54:00:00:01:{i:02x}", clients["uefi"]).yiaddr for i in range(10)}
    assert len(got) == 10
    assert rig.ask(p.DISCOVER, B, clients["uefi"]) is None
    assert rig.events("boot-seen")[-1]["because"] == "no address is free on prov"


def test_expired_leases_are_given_again_oldest_first(rig: Any, clients: Any) -> None:
    for i in range(10):
        rig.now += 1
        rig.lease(f"52:54:00:00:01:{i:02x}", clients["uefi"])
    rig.now += 3596
    assert rig.lease(B, clients["uefi"]).yiaddr == "10.0.0.100"


def test_an_offer_nobody_takes_is_free_again_after_a_minute(rig: Any, clients: Any) -> None:
    for i in range(10):
        rig.ask(p.DISCOVER, f"52:54:00:00:01:{i:02x}", clients["uefi"])
    assert rig.ask(p.DISCOVER, B, clients["uefi"]) is None
    rig.now += 61
    assert rig.ask(p.DISCOVER, B, clients["uefi"]) is not None


def test_a_request_for_another_server_is_not_ours(rig: Any, clients: Any) -> None:
    rig.ask(p.DISCOVER, A, clients["uefi"])
    assert rig.ask(p.REQUEST, A, {**clients["uefi"], 50: p.packed("10.0.0.100"), 54: p.packed("10.0.0.9")}) is None
    assert "took the offer of server 10.0.0.9" in rig.events("boot-seen")[-1]["because"]
    assert rig.ask(p.DISCOVER, B, {**clients["uefi"], 50: p.packed("10.0.0.100")}).yiaddr == "10.0.0.100"


NAK_ROWS = [
    # how the client asks                     address        answer
    ("init-reboot", "192.168.1.7", "nak"),  # wrong network
    ("init-reboot", "10.0.0.105", "silent"),  # right network, no record of it: MUST stay silent
    ("init-reboot", "10.0.0.50", "silent"),  # not ours to give
    ("renew", "192.168.1.7", "nak"),
    ("renew", "10.0.0.105", "ack"),  # our journal was lost, the address is free
    ("renew", "10.0.0.50", "silent"),
    ("selecting", "10.0.0.105", "ack"),  # we forgot the offer, nobody has it
    ("selecting", "10.0.0.50", "nak"),
    ("selecting", "10.0.0.1", "nak"),  # our own address
]


@pytest.mark.parametrize(("how", "address", "answer"), NAK_ROWS)
def test_a_request_without_a_lease(rig: Any, clients: Any, how: str, address: str, answer: str) -> None:
    reply = _request(rig, clients, how, address)
    assert (reply is None and "silent") or {p.ACK: "ack", p.NAK: "nak"}[reply.type] == answer


def _request(rig: Any, clients: Any, how: str, address: str) -> p.Packet | None:
    if how == "init-reboot":
        return rig.ask(p.REQUEST, A, {**clients["plain"], 50: p.packed(address)})  # type: ignore[no-any-return]
    if how == "renew":
        return rig.ask(p.REQUEST, A, clients["plain"], ciaddr=address)  # type: ignore[no-any-return]
    return rig.ask(p.REQUEST, A, {**clients["plain"], 50: p.packed(address), 54: p.packed("10.0.0.1")})  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["init-reboot", "renew", "selecting"])
def test_nobody_takes_a_leased_address(rig: Any, clients: Any, how: str) -> None:
    taken = rig.lease(B, clients["plain"]).yiaddr
    assert _request(rig, clients, how, taken).type == p.NAK  # type: ignore[union-attr]


def test_renewing_goes_to_the_client_and_extends(rig: Any, clients: Any) -> None:
    got = rig.lease(A, clients["plain"])
    rig.now += 1800
    ack = rig.ask(p.REQUEST, A, clients["plain"], ciaddr=got.yiaddr, broadcast=True)
    assert (ack.type, ack.yiaddr, ack.ciaddr) == (p.ACK, got.yiaddr, got.yiaddr)
    assert rig.sent[1:3] == (Route.RAW, p.packed(got.yiaddr))
    rig.now += 3000
    assert _request(rig, clients, "renew", got.yiaddr).type == p.ACK  # type: ignore[union-attr]


def test_released_and_declined(rig: Any, clients: Any) -> None:
    got = rig.lease(A, clients["plain"]).yiaddr
    assert rig.ask(p.RELEASE, A, {54: p.packed("10.0.0.1")}, ciaddr=got) is None
    assert rig.ask(p.DISCOVER, B, {**clients["plain"], 50: p.packed(got)}).yiaddr == got
    rig.lease(B, {**clients["plain"], 50: p.packed(got)})
    assert rig.ask(p.DECLINE, B, {54: p.packed("10.0.0.1"), 50: p.packed(got)}) is None
    assert rig.ask(p.DISCOVER, B, {**clients["plain"], 50: p.packed(got)}).yiaddr != got
    assert "in use by somebody else" in rig.events("refused")[-1]["why"]


def test_who_gave_its_address_back_gets_it_again_if_it_is_free(rig: Any, clients: Any) -> None:
    rig.lease(B, clients["plain"])
    got = rig.lease(A, clients["plain"]).yiaddr
    rig.ask(p.RELEASE, A, {54: p.packed("10.0.0.1")}, ciaddr=got)
    rig.lease("52:54:00:00:00:03", clients["plain"])
    assert rig.ask(p.DISCOVER, A, clients["plain"]).yiaddr == got


LEASEQUERIES = [
    # asked by             answer
    ({"ciaddr": "10.0.0.100", "mac": A}, p.LEASEACTIVE),
    ({"ciaddr": "10.0.0.105", "mac": B}, p.LEASEUNASSIGNED),
    ({"ciaddr": "10.0.0.9", "mac": B}, p.LEASEUNKNOWN),
    ({"mac": A}, p.LEASEACTIVE),
    ({"mac": B}, p.LEASEUNKNOWN),
]


@pytest.mark.parametrize(("fields", "answer"), LEASEQUERIES)
def test_relays_may_ask_who_has_an_address(rig: Any, clients: Any, fields: dict[str, Any], answer: int) -> None:
    rig.lease(A, clients["plain"])
    reply = rig.ask(p.LEASEQUERY, giaddr="10.0.0.250", **fields)
    assert (reply.type, reply.giaddr, rig.sent[1]) == (answer, "10.0.0.250", Route.RELAY)
    if answer == p.LEASEACTIVE:
        assert (reply.ciaddr, reply.mac) == ("10.0.0.100", A)
    assert rig.ask(p.LEASEQUERY, **fields) is None


def test_a_stranger_cannot_release_anothers_lease(rig: Any, clients: Any) -> None:
    got = rig.lease(A, clients["plain"]).yiaddr
    rig.ask(p.RELEASE, B, {54: p.packed("10.0.0.1")}, ciaddr=got)
    assert rig.ask(p.REQUEST, B, {50: p.packed(got), 54: p.packed("10.0.0.1")}).type == p.NAK


def test_inform_gets_options_but_no_lease(rig: Any, clients: Any) -> None:
    ack = rig.ask(p.INFORM, A, clients["plain"], ciaddr="10.0.0.77")
    assert (ack.type, ack.yiaddr, 51 in ack.options, ack.options[54]) == (p.ACK, "0.0.0.0", False, p.packed("10.0.0.1"))
    assert rig.sent[1:3] == (Route.RAW, p.packed("10.0.0.77"))
    assert not rig.server.bound


ROUTES = [
    # fields                                                 travels
    ({"broadcast": True}, Route.BROADCAST),
    ({"broadcast": False}, Route.RAW),
    ({"giaddr": "10.0.0.250"}, Route.RELAY),
    ({"giaddr": "10.0.0.250", "broadcast": True}, Route.RELAY),
]


@pytest.mark.parametrize(("fields", "route"), ROUTES)
def test_how_an_offer_travels(rig: Any, clients: Any, fields: dict[str, Any], route: Route) -> None:
    assert rig.ask(p.DISCOVER, A, clients["uefi"], **fields) is not None
    assert rig.sent[1] is route


def test_a_wished_lease_time_is_granted_when_shorter(rig: Any, clients: Any) -> None:
    offer = rig.ask(p.DISCOVER, A, {**clients["plain"], 51: (300).to_bytes(4, "big")})
    assert int.from_bytes(offer.options[51], "big") == 300
    offer = rig.ask(p.DISCOVER, A, {**clients["plain"], 51: b"\xff\xff\xff\xff"})
    assert int.from_bytes(offer.options[51], "big") == 3600


def test_client_id_is_echoed_and_relay_information_comes_last(rig: Any, clients: Any) -> None:
    offer = rig.ask(p.DISCOVER, A, {**clients["uefi"], 61: b"\0abc", 82: b"\x01\x03sw1"}, giaddr="10.0.0.250")
    assert offer.options[61] == b"\0abc"
    assert list(offer.options)[-1] == 82
    offer = rig.ask(p.DISCOVER, A, clients["uefi"])
    assert 82 not in offer.options


def test_rapid_commit_only_where_the_network_says_so(make_rig: Any, network: Network, clients: Any) -> None:
    plain = make_rig(network)
    assert plain.ask(p.DISCOVER, A, {**clients["plain"], 80: b""}).type == p.OFFER
    quick = make_rig(replace(network, options={"rapid-commit": "on"}))
    ack = quick.ask(p.DISCOVER, A, {**clients["plain"], 80: b""})
    assert (ack.type, ack.options[80]) == (p.ACK, b"")
    assert len(quick.server.bound) == 1


def test_bootp_of_1985_gets_an_address(rig: Any) -> None:
    question = p.build(p.Packet(1, 1, 7, A))[:236] + bytes(64)
    sent = rig.server.receive(question, rig.now)
    reply = p.parse(sent[0])
    assert (reply.yiaddr, reply.options, len(sent[0])) == ("10.0.0.100", {}, 300)


def test_a_relayed_machine_is_served_from_the_relays_subnet(make_rig: Any, network: Network, clients: Any) -> None:
    far = replace(
        network,
        name="far",
        cidr="10.9.0.0/24",
        server="10.0.0.1",
        range_first="10.9.0.10",
        range_last="10.9.0.20",
        router="10.9.0.1",
    )
    rig = make_rig(network, far)
    offer = rig.ask(p.DISCOVER, A, clients["uefi"], giaddr="10.9.0.1", hops=3)
    assert (offer.yiaddr, offer.giaddr, offer.hops) == ("10.9.0.10", "10.9.0.1", 0)
    chosen = rig.ask(p.DISCOVER, B, {**clients["uefi"], 82: b"\x05\x04" + p.packed("10.9.0.0")}, giaddr="10.0.0.250")
    assert chosen.yiaddr.startswith("10.9.0.")
    assert rig.ask(p.DISCOVER, B, clients["uefi"], giaddr="172.16.0.1") is None
    assert "no network of ours has link 172.16.0.1" in rig.events("refused")[-1]["why"]


def test_a_switch_port_names_a_machine(make_rig: Any, make_node: Any, network: Network, clients: Any) -> None:
    rig = make_rig(replace(network, mode=Mode.KNOWN))
    rig.server.update([make_node(macs=(), extra={"circuit": "sw1/07"})])
    offer = rig.ask(p.DISCOVER, B, {**clients["uefi"], 82: b"\x01\x06sw1/07"}, giaddr="10.0.0.250")
    assert (offer.yiaddr, offer.boot_file) == ("10.0.0.20", "snponly.efi")


# ---------------------------------------------------------------- nodes


def test_a_known_node_gets_its_fixed_address_in_every_stage(known_rig: Any, clients: Any) -> None:
    for kind in ("bios", "uefi", "ipxe", "plain"):
        assert known_rig.lease(A, clients[kind]).yiaddr == "10.0.0.20"
    assert known_rig.server.bound == []


def test_an_unknown_machine_is_ignored_with_a_reason(known_rig: Any, clients: Any) -> None:
    assert known_rig.ask(p.DISCOVER, B, clients["uefi"]) is None
    assert known_rig.events("unknown-seen") == [
        {
            "mac": B,
            "uuid": "03020100-0504-0706-0809-0a0b0c0d0e0f",
            "arch": "uefi-x64",
            "loader": "firmware",
            "network": "prov",
        }
    ]
    seen = known_rig.events("boot-seen")[0]
    assert (seen["decision"], "known machines only" in seen["because"]) == ("ignore", True)


def test_an_operating_system_with_another_address_is_moved_to_its_own(known_rig: Any, clients: Any) -> None:
    reply = known_rig.ask(p.REQUEST, A, {**clients["plain"], 50: p.packed("10.0.0.105")})
    assert reply.type == p.NAK
    assert b"fixed address 10.0.0.20" in reply.options[56]


def test_a_node_with_purpose_disk_is_told_to_boot_it(known_rig: Any, make_node: Any, clients: Any) -> None:
    known_rig.server.change([make_node(purpose=Purpose.DISK, because="active")])
    offer = known_rig.ask(p.DISCOVER, A, clients["uefi"])
    assert offer.boot_file == ""
    assert offer.options[43][:3] == b"\x06\x01\x03"
    assert known_rig.events("boot-seen")[-1]["decision"] == "local-disk"


def test_another_nic_of_a_node_is_known_by_uuid_but_keeps_off_its_address(
    known_rig: Any, make_node: Any, clients: Any
) -> None:
    known_rig.server.change([make_node(uuid="03020100-0504-0706-0809-0a0b0c0d0e0f")])
    offer = known_rig.ask(p.DISCOVER, B, clients["uefi"])
    assert (offer.yiaddr, offer.boot_file) == ("10.0.0.100", "snponly.efi")


def test_an_address_given_away_before_is_not_given_twice(rig: Any, make_node: Any, clients: Any) -> None:
    rig.lease(B, {**clients["plain"], 50: p.packed("10.0.0.105")})
    rig.server.update([make_node(address="10.0.0.105")])
    assert rig.ask(p.DISCOVER, A, clients["uefi"]).yiaddr == "10.0.0.100"
    assert "holds it" in rig.events("boot-seen")[-1]["because"]
    rig.now += 3601
    assert rig.ask(p.DISCOVER, A, clients["uefi"]).yiaddr == "10.0.0.105"


def test_nobody_else_gets_a_nodes_address(rig: Any, make_node: Any, clients: Any) -> None:
    rig.server.update([make_node(address="10.0.0.100")])
    assert rig.lease(B, {**clients["plain"], 50: p.packed("10.0.0.100")}).yiaddr == "10.0.0.101"


def test_a_changed_record_changes_the_answer_at_once(known_rig: Any, make_node: Any, clients: Any) -> None:
    assert known_rig.ask(p.DISCOVER, A, clients["uefi"]).boot_file == "snponly.efi"
    known_rig.server.change([make_node(secure_boot=True)])
    assert known_rig.ask(p.DISCOVER, A, clients["uefi"]).boot_file == "shimx64.efi"
    known_rig.server.change([], gone=["id-r1"])
    assert known_rig.ask(p.DISCOVER, A, clients["uefi"]) is None


def test_the_same_answer_is_told_once(known_rig: Any, clients: Any) -> None:
    known_rig.lease(A, clients["uefi"])
    known_rig.ask(p.DISCOVER, A, clients["uefi"])
    assert len(known_rig.events("boot-seen")) == 1
    known_rig.now += 31
    known_rig.ask(p.DISCOVER, A, clients["uefi"])
    assert len(known_rig.events("boot-seen")) == 2


def test_ovmf_asks_for_other_options_in_its_request_but_that_is_one_answer(known_rig: Any, clients: Any) -> None:
    known_rig.ask(p.DISCOVER, A, clients["uefi"])
    known_rig.ask(p.DISCOVER, A, {**clients["uefi"], 55: b"\x01\x03"})
    assert len(known_rig.events("boot-seen")) == 1


# ---------------------------------------------------------------- beside a foreign server


def test_proxy_gives_boot_data_and_no_address(make_rig: Any, network: Network, clients: Any) -> None:
    rig = make_rig(replace(network, proxy=True))
    offer = rig.ask(p.DISCOVER, A, clients["uefi"])
    assert (offer.type, offer.yiaddr, offer.boot_file, 51 in offer.options) == (
        p.OFFER,
        "0.0.0.0",
        "snponly.efi",
        False,
    )
    assert rig.ask(p.DISCOVER, A, clients["plain"]) is None
    assert rig.ask(p.REQUEST, A, {**clients["uefi"], 50: p.packed("10.0.0.5"), 54: p.packed("10.0.0.9")}) is None


def test_port_4011_answers_with_the_boot_file(make_rig: Any, network: Network, clients: Any) -> None:
    rig = make_rig(replace(network, proxy=True))
    question = p.Packet(1, 1, 9, A, ciaddr="10.0.0.5", options={53: b"\3", **clients["uefi"]})
    ack = p.parse(rig.server.receive_boot(p.build(question), rig.now))
    assert (ack.type, ack.boot_file, ack.yiaddr, ack.options[60]) == (p.ACK, "snponly.efi", "0.0.0.0", b"PXEClient")


# ---------------------------------------------------------------- bad input

HOSTILE = [
    ("multicast hardware address", {"mac": "01:00:5e:00:00:01"}, {}),
    ("no hardware address", {"mac": "00:00:00:00:00:00"}, {}),
    ("relay is broadcast", {"giaddr": "255.255.255.255"}, {}),
    ("relay is ourselves", {"giaddr": "10.0.0.1"}, {}),
    ("message type of two bytes", {}, {53: b"\1\1"}),
    ("server id of one byte", {}, {53: b"\3", 54: b"\x0a", 50: b"\x0a\0\0\x64"}),
    ("request for nothing", {}, {53: b"\3"}),
    ("requested address of three bytes", {}, {53: b"\3", 50: b"\x0a\0\0"}),
]


@pytest.mark.parametrize(("what", "fields", "options"), HOSTILE)
def test_hostile_input_is_not_answered(
    rig: Any, clients: Any, what: str, fields: dict[str, Any], options: dict[int, bytes]
) -> None:
    assert rig.ask(p.DISCOVER, options={**clients["uefi"], **options}, **fields) is None, what
    assert rig.lease(A, clients["uefi"]).type == p.ACK


def test_a_reply_fits_what_the_client_takes(make_rig: Any, network: Network) -> None:
    long = {f"{n}": "hex:" + "00" * 200 for n in range(224, 230)}
    rig = make_rig(replace(network, options=long))
    everything = bytes(range(1, 255))
    assert len(rig.server.receive(p.build(p.Packet(1, 1, 1, A, options={53: b"\1", 55: everything})), 0.0)[0]) <= 548
    big = rig.server.receive(p.build(p.Packet(1, 1, 1, A, options={53: b"\1", 55: everything, 57: b"\x20\0"})), 0.0)[0]
    assert len(big) > 1200


def test_invented_machines_do_not_flood_the_events(make_rig: Any, network: Network, clients: Any) -> None:
    rig = make_rig(replace(network, mode=Mode.KNOWN))
    for n in range(10_000):
        rig.ask(p.DISCOVER, f"02:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}", clients["uefi"])
    assert len(rig.events("unknown-seen")) == 4000
    rig.now += 1
    rig.ask(p.DISCOVER, B, clients["uefi"])
    assert rig.events("serving")[-1]["detail"] == "a flood: 6000 things about unknown machines were not told"


def test_what_clients_can_fill_is_bounded(rig: Any) -> None:
    for i in range(3000):
        rig.ask(p.DISCOVER, A, {60: b"PXEClient:%d" % i, 93: b"\0\7"})
    assert len(rig.server._templates) <= 20_000


RESERVED = {
    "52:54:00:00:00:07": "10.0.0.7",
    "uuid:03020100-0504-0706-0809-0a0b0c0d0e0f": "10.0.0.8",
    "circuit:sw1/9": "10.0.0.105",
}


@pytest.mark.parametrize(
    ("mac", "options", "address"),
    [
        ("52:54:00:00:00:07", {}, "10.0.0.7"),
        ("52:54:00:00:00:aa", {97: b"\0" + bytes(range(16))}, "10.0.0.8"),
        ("52:54:00:00:00:bb", {82: b"\x01\x05sw1/9"}, "10.0.0.105"),
    ],
)
def test_reservations_without_a_node(
    make_rig: Any, network: Network, mac: str, options: dict[int, bytes], address: str
) -> None:
    rig = make_rig(replace(network, mode=Mode.KNOWN, reservations=RESERVED))
    relay = {"giaddr": "10.0.0.254"} if 82 in options else {}
    offer = rig.ask(p.DISCOVER, mac, {55: b"\1", **options}, **relay)
    assert offer.yiaddr == address
    assert rig.ask(p.REQUEST, mac, {50: p.packed(address), 54: p.packed("10.0.0.1"), **options}, **relay).type == p.ACK
    assert not [e for e in rig.server.events if e["node"]]
    rig.server.update(())
    assert rig.ask(p.DISCOVER, mac, {55: b"\1", **options}, **relay).yiaddr == address


def test_a_reserved_address_is_nobody_elses(make_rig: Any, network: Network) -> None:
    rig = make_rig(replace(network, reservations=RESERVED))
    given = {rig.ask(p.DISCOVER, f"52:54:00:00:01:{n:02x}").yiaddr for n in range(9)}
    assert len(given) == 9
    assert "10.0.0.105" not in given


def test_a_node_may_have_its_address_from_the_network(make_rig: Any, make_node: Any, network: Network) -> None:
    rig = make_rig(replace(network, reservations=RESERVED))
    rig.server.update([make_node(mac="52:54:00:00:00:07", address=None)])
    assert rig.ask(p.DISCOVER, "52:54:00:00:00:07").yiaddr == "10.0.0.7"
    assert rig.events("boot-seen")[-1]["because"].startswith("r1:")


@pytest.mark.parametrize(
    ("other", "why"),
    [("", "it does not hear the answer"), ("10.0.0.254", "another server's offer, seen from 10.0.0.254")],
)
def test_offers_that_nobody_takes_are_told(rig: Any, clients: Any, other: str, why: str) -> None:
    rig.server.others = other
    for _ in range(4):
        assert rig.ask(p.DISCOVER, A, clients["uefi"])
        rig.now += 4
    told = [e["because"] for e in rig.events("boot-seen") if e["decision"] == "no-request"]
    assert told == [told[0]]
    assert told[0].startswith("offer sent 3 times, no request: ")
    assert why in told[0]
    rig.lease(A)
    rig.now += 60
    rig.ask(p.DISCOVER, A, clients["uefi"])  # the next boot counts anew
    assert len([e for e in rig.events("boot-seen") if e["decision"] == "no-request"]) == 1
