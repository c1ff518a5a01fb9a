"""Any bytes: a packet or a clean error, never anything else; and the server always goes on."""

from __future__ import annotations

import functools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from baremetal.boot.decide import Urls, decide
from baremetal.boot.ipxe import ScriptError, render_values
from baremetal.model.network import Mode, Network
from baremetal.serve.loaders import read_loaders, read_templates
from baremetal.wire import nd, pxe
from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.dhcp4.server import Server
from baremetal.wire.tftp import packet as t
from baremetal.wire.tftp.blocks import Blocks, PageCache
from baremetal.wire.tftp.transfer import Transfer, negotiate

NETWORK = Network("n", "eth0", "10.0.0.0/16", "10.0.0.1", "10.0.1.1", "10.0.250.250", mode=Mode.ANYBODY)
ANSWERS = functools.partial(decide, urls=Urls(http="http://10.0.0.1:8080", loaders=read_loaders()))
HEAD = bytes.fromhex("0101060000000001") + bytes(20) + bytes.fromhex("525400000001") + bytes(202)
options = st.dictionaries(st.integers(1, 254), st.binary(max_size=40), max_size=12)
raw_options = st.binary(max_size=400)


@st.composite
def nearly_dhcp(draw: st.DrawFn) -> bytes:
    """A message with a few bytes changed, cut or added."""
    data = bytearray(HEAD + p.MAGIC + draw(raw_options))
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(st.binary(max_size=700) | nearly_dhcp())
@settings(max_examples=300, deadline=None)
def test_dhcp_bytes(data: bytes) -> None:
    try:
        packet = p.parse(data)
    except p.BadPacket:
        return
    assert p.parse(p.build(packet)).options.keys() >= packet.options.keys() - {0}
    pxe.client(packet.options, packet.mac)
    p.sub_options(packet.options.get(82, b""))


@given(
    st.lists(
        nearly_dhcp() | options.map(lambda o: p.build(p.Packet(1, 1, 5, "52:54:00:00:00:09", options=o))), max_size=20
    )
)
@settings(max_examples=200, deadline=None)
def test_the_rules_hold_whatever_comes(datagrams: list[bytes]) -> None:
    server = Server([NETWORK], ANSWERS)
    for n, data in enumerate(datagrams):
        sent = server.receive(data, float(n))
        server.receive_boot(data, float(n))
        if sent is not None:
            reply = p.parse(sent[0])
            assert reply.op == p.BOOTREPLY
            assert len(sent[0]) >= 300
    held = list(server.scopes[0].leases)
    assert len({x.ip for x in held}) == len(held)


@given(options.filter(lambda o: not {52, 255} & set(o)))
@settings(deadline=None)
def test_options_survive_the_wire(given_options: dict[int, bytes]) -> None:
    packet = p.Packet(1, 1, 77, "52:54:00:00:00:01", options=given_options)
    assert p.parse(p.build(packet)).options == given_options


@given(st.binary(max_size=600) | st.binary(max_size=200).map(lambda b: b"\0\1" + b + b"\0"))
@settings(max_examples=300, deadline=None)
def test_tftp_bytes(data: bytes) -> None:
    try:
        request = t.parse_request(data)
    except t.BadPacket:
        return
    assert ".." not in request.name.split("/")
    assert not request.name.startswith("/")
    terms = negotiate(request, 1000, 1468)
    assert 8 <= terms.blksize <= 1468
    assert 1 <= terms.window <= 64


@given(
    st.lists(st.tuples(st.binary(max_size=8) | st.integers(0, 70000).map(t.ack), st.floats(0, 2)), max_size=60),
    st.integers(1, 64),
)
@settings(max_examples=200, deadline=None)
def test_a_transfer_sends_only_blocks_of_the_file(told: list[tuple[bytes, float]], window: int) -> None:
    content = bytes(1000)
    blocks = Blocks("f", len(content), 8, lambda o, n: content[o : o + n], PageCache())
    run = Transfer(blocks, negotiate(t.Request("f", "octet", {"windowsize": str(window)}), 1000, 1468), 0.0)
    run.first()
    now = 0.0
    for data, pause in told:
        now += pause
        for out in (run.receive(data, now), run.tick(now)):
            if out is not None and out[1] == 3:
                assert 1 <= int.from_bytes(out[2:4], "big") <= blocks.count
        if run.outcome is not None:
            return


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_value_adds_a_line_or_a_command_to_a_script(value: str) -> None:
    template = read_templates(Path(__file__).parents[3] / "pxe")["ramdisk.ipxe.j2"]
    plain = dict.fromkeys(
        ("name", "because", "http", "https", "kernel", "initrd", "nonce", "mac_hyphens", "script_url"), "x"
    )
    lines = render_values(template, {**plain, "cmdline": "quiet"}).splitlines()
    for key in (*plain, "cmdline"):
        try:
            text = render_values(template, {**plain, "cmdline": "quiet", key: value})
        except ScriptError:
            continue
        assert len(text.splitlines()) == len(lines)
        assert text.count("${") == 1
        assert [x.split(" ")[0] for x in text.splitlines()] == [x.split(" ")[0] for x in lines]


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: b"\x86\0" + b))
@settings(max_examples=200, deadline=None)
def test_router_messages(data: bytes) -> None:
    nd.is_solicitation(data)
    try:
        nd.parse_advertisement(data)
    except nd.BadMessage:
        return
