"""Any bytes from a BMC: a value or a clean error, never anything else."""

import asyncio
import contextlib
import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baremetal.bmc import fru, guid, presession, rakp, sdr, sel, wirejson
from baremetal.bmc.base import BmcError, BootDevice, BootPlan, Identity, LogRecord, Power, Reading
from baremetal.bmc.ipmi import IpmiDriver
from baremetal.bmc.link import Answer
from baremetal.bmc.nodesfile import parse
from baremetal.bmc.sol import SolWindow
from baremetal.bmc.url import BmcUrl
from baremetal.errors import UsageError
from baremetal.wire.ipmi import crypto, rmcp

datagrams = st.binary(max_size=400)


class NoiseLink:
    """A session whose BMC answers whatever it likes."""

    cipher = 17
    gap_s = 0.0

    def __init__(self, answers):
        self.answers = answers
        self.asked = 0

    async def command(self, netfn, command, data=b"", lun=0):
        self.asked += 1
        assert self.asked < 20000
        return self.answers[self.asked % len(self.answers)]

    async def close(self):
        pass


answers = st.lists(
    st.builds(Answer, st.sampled_from([0, 0, 0, 0, 0xC0, 0xC1, 0xC5, 0xCA, 0xFF]), st.binary(max_size=64)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answers, st.sampled_from(["identify", "power", "get_boot", "sensors", "events", "users", "clear_events"]))
def test_every_reader_survives_any_answers(noise, call):
    bmc = IpmiDriver(NoiseLink(noise), "noise")
    with contextlib.suppress(BmcError):
        asyncio.run(getattr(bmc, call)())


@given(datagrams)
def test_fru_sdr_sel_of_any_bytes(data):
    assert all(isinstance(text, str) for text in fru.decode(data).values())
    sensor = sdr.decode(data)
    if sensor is not None:
        sdr.interpret(sensor, data[:4])
    sel.decode(data.ljust(16, b"\0")[:16])
    guid.smbios_text(data.ljust(16, b"\0")[:16])
    presession.suite_ids(data)
    presession.capabilities(data)


@given(datagrams, st.sampled_from([3, 17]))
def test_handshake_takes_no_foreign_answer(data, suite):
    hand = rakp.Handshake(b"admin", b"secret", None, crypto.SUITES[suite], 4, 8)
    packet = rmcp.parse(data)
    if isinstance(packet, rmcp.Packet20):
        for check in (hand.open_response, hand.rakp2, hand.rakp4):
            with contextlib.suppress(rakp.Reject):
                assert not check(packet)


@given(st.binary(max_size=300), st.integers(0, 0xFF), st.integers(0, 40))
def test_a_sealed_packet_opens_again_and_no_flipped_bit_does(payload, flip, at):
    keys = rakp.Keys(crypto.SUITES[17], 1, 1, b"k" * 32, b"a" * 16, b"")
    sealed = keys.seal(0, payload, 1)
    assert keys.open(rmcp.parse(sealed)) == payload
    broken = bytearray(sealed)
    broken[4 + at % (len(sealed) - 4)] ^= flip or 1
    packet = rmcp.parse(bytes(broken))
    assert not isinstance(packet, rmcp.Packet20) or keys.open(packet) is None


@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(1, 60))
def test_console_window_never_loses_what_is_acknowledged(packets, limit):
    window = SolWindow(limit)
    window.put(b"0123456789" * 20)
    sent = b""
    for noise in packets:
        window.receive(noise)
    for _ in range(1000):
        packet = window.packet()
        if packet is None:
            break
        characters = packet[4:]
        taken = max(1, len(characters) // 2) if characters else 0
        sent += characters[:taken]
        window.receive(bytes((0, packet[0], taken, 0)))
    assert (b"0123456789" * 20).endswith(sent)
    assert len(sent) > 0 or packets


texts = st.text(max_size=30)
values = st.one_of(
    st.sampled_from(list(Power)),
    st.builds(BootPlan, st.sampled_from(list(BootDevice)), st.booleans(), st.none() | st.booleans()),
    st.builds(
        Identity,
        vendor=st.none() | texts,
        macs=st.lists(texts, max_size=3).map(tuple),
        extra=st.dictionaries(texts, texts, max_size=3),
    ),
    st.builds(
        Reading,
        texts,
        texts,
        texts,
        st.none() | st.floats(allow_nan=False),
        discrete=st.lists(texts, max_size=2).map(tuple),
    ),
    st.builds(LogRecord, texts, st.none() | st.floats(0, 2e9), texts, texts, texts),
    st.binary(max_size=30),
)


@given(values)
def test_what_a_worker_answers_arrives_as_it_was(value):
    assert wirejson.unpack(json.loads(wirejson.line({"v": wirejson.pack(value)}))["v"]) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )
)
def test_a_worker_can_only_say_known_things(doc):
    with contextlib.suppress(ValueError, TypeError):
        wirejson.unpack(doc)


@given(st.text(alphabet=string.printable, max_size=60))
def test_urls_of_any_text(text):
    try:
        url = BmcUrl.parse(text)
    except UsageError:
        return
    assert BmcUrl.parse(str(url)) == url


entry = st.dictionaries(
    st.sampled_from(
        [
            "pm_type",
            "pm_addr",
            "pm_user",
            "pm_password",
            "pm_port",
            "mac",
            "ports",
            "name",
            "capabilities",
            "bmc",
            "driver",
            "driver_info",
            "root_device",
            "x",
        ]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["ipmi", "redfish", "10.0.0.1", "fake"]) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(entry | texts, max_size=4), st.sampled_from([".json", ".yaml"]))
def test_nodes_files_of_any_shape(entries, suffix):
    with contextlib.suppress(UsageError):
        parse(json.dumps({"nodes": entries}), suffix=suffix)


@pytest.mark.parametrize("raw", [b"", b"\x00", bytes(8), bytes(255), b"\xff" * 255])
def test_fru_of_odd_bytes(raw):
    assert isinstance(fru.decode(raw), dict)
