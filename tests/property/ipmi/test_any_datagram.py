"""Whatever arrives on UDP 623: a reply or nothing, never anything else."""

from __future__ import annotations

import struct
import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from baremetal.wire.ipmi import crypto, rmcp
from baremetal.wire.ipmi.bmc import Bmc, Identity
from baremetal.wire.ipmi.codes import ChassisControl
from baremetal.wire.ipmi.commands import TABLE, execute
from baremetal.wire.ipmi.commands.context import Context
from baremetal.wire.ipmi.message import Request, build_request, parse_request
from baremetal.wire.ipmi.server import Server
from baremetal.wire.ipmi.session import Session
from baremetal.wire.ipmi.users import one_admin


class _Chassis:
    on = False

    def powered(self) -> bool:
        return self.on

    def control(self, order: ChassisControl) -> None:
        self.on = order is ChassisControl.ON


def _bmc() -> Bmc:
    return Bmc(_Chassis(), Identity(uuid=uuid.UUID(int=1)), one_admin("admin", "secret"), suites=(0, 3, 17))


def _session(suite: int = 3) -> Session:
    session = Session(7, 8, crypto.SUITES[suite], 4, active=True, privilege=4, limit=4)
    session.derive(b"k" * 20)
    return session


HEADERS = st.sampled_from(
    [b"", b"\x06", b"\x06\0\xff\x07", b"\x06\0\xff\x06\0\0\x11\xbe", b"\x06\0\xff\x07\0", b"\x06\0\xff\x07\x06\x10"]
)
SETUP = [0x10, 0x12, 0x14, 0x00, 0x01, 0x02, 0x3F]


@given(HEADERS, st.binary(max_size=120))
@settings(max_examples=250, deadline=None)
def test_bytes(head, tail):
    for reply in Server(_bmc()).receive(head + tail, 0.0, "x"):
        assert reply[0] == 6


@given(st.lists(st.tuples(st.sampled_from(SETUP), st.binary(max_size=80)), max_size=4))
@settings(max_examples=100, deadline=None)
def test_session_set_up_in_any_order_with_any_payload(messages):
    server = Server(_bmc())
    for kind, payload in messages:
        server.receive(rmcp.packet20(kind, payload), 0.0, "x")
    assert len(server.sessions) <= server.bmc.max_sessions
    assert not any(s.active and s.suite.id for s in server.sessions.values())


@given(st.integers(0, 255), st.binary(max_size=40), st.sampled_from([0x10, 0x12, 0x14]))
@settings(max_examples=100, deadline=None)
def test_an_opened_session_with_garbage_after_it(status, payload, kind):
    server = Server(_bmc())
    records = b"".join(bytes((k, 0, 0, 8, n, 0, 0, 0)) for k, n in enumerate((1, 1, 1)))
    server.receive(rmcp.packet20(0x10, b"\1\4\0\0" + b"abcd" + records), 0.0, "x")
    [number] = server.sessions
    server.receive(rmcp.packet20(kind, bytes((1, status, 0, 0)) + struct.pack("<I", number) + payload), 0.0, "x")
    assert not any(s.active for s in server.sessions.values())


@given(st.sampled_from(sorted(TABLE)), st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_every_command_with_any_data_has_a_completion_code(key, data):
    bmc, session = _bmc(), _session()
    session.user = bmc.users[2]
    answer = execute(Context(bmc, 1e9, session, {7: session}), Request(*key, data))
    assert 1 <= len(answer) <= 1 + 128


@given(st.sampled_from(sorted(TABLE)), st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_fresh_bmc_still_says_who_it_is_after_any_command(key, data):
    bmc = _bmc()
    execute(Context(bmc, 1e9, local=True), Request(*key, data))
    assert len(execute(Context(bmc, 1e9, local=True), Request(6, 1, b""))) == 16


@given(st.binary(max_size=60))
def test_messages_round_trip(data):
    request = Request(0x06, 0x01, data, seq=5)
    assert parse_request(build_request(request)) == request


@given(st.binary(max_size=300), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_encryption_round_trips(payload, key, iv):
    assert crypto.decrypt(key, crypto.encrypt(key, payload, iv)) == payload


@given(st.sampled_from([0, 3, 17]), st.binary(max_size=100), st.data())
@settings(max_examples=100, deadline=None)
def test_sealed_packets_open_once_and_broken_ones_never(suite, payload, data):
    sender, receiver = _session(suite), _session(suite)
    packet = sender.seal(0, payload, bytes(16))
    parsed = rmcp.parse(packet)
    assert isinstance(parsed, rmcp.Packet20)
    if suite:
        at = data.draw(st.integers(4, len(packet) - 1))
        broken = rmcp.parse(packet[:at] + bytes((packet[at] ^ 0x10,)) + packet[at + 1 :])
        assert not isinstance(broken, rmcp.Packet20) or receiver.open_(broken) is None
    assert receiver.open_(parsed) == payload
    assert receiver.open_(parsed) is None
