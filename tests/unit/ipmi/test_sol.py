"""The serial line: numbering, acknowledgement, repetition, and giving it to one at a time."""

from __future__ import annotations

from baremetal.wire.ipmi import rmcp
from baremetal.wire.ipmi.sol import BACKLOG, CHUNK, DEACTIVATED, OVERRUN, Line

T = 1000.0


def ack(seq: int, count: int, flags: int = 0) -> bytes:
    return bytes((0, seq, count, flags))


def test_one_packet_in_flight_and_the_rest_follows_the_acknowledgement():
    line = Line(1)
    assert line.output(b"hello", T) == [b"\x01\0\0\0hello"]
    assert line.output(b" wor", T) == []
    assert line.output(b"ld", T) == []
    assert line.receive(ack(1, 5), T) == [b"\x02\0\0\0 world"]
    assert line.receive(ack(2, 6), T) == []
    assert line.deadline is None


def test_partly_accepted_data_goes_out_again():
    line = Line(1)
    line.output(b"hello", T)
    assert line.receive(ack(1, 2), T) == [b"\x02\0\0\0llo"]


def test_repetition_has_the_same_number_and_ends():
    line = Line(1)
    [first] = line.output(b"x", T)
    assert line.tick(T + 0.4) == []
    now, repeated = T, 0
    while line.deadline is not None:
        now = line.deadline
        for packet in line.tick(now):
            assert packet == first
            repeated += 1
    assert (repeated, line.dead) == (7, True)


def test_typed_once_though_sent_twice():
    line = Line(1)
    assert line.receive(b"\x01\0\0\0ls\r", T) == [b"\0\x01\x03\0"]
    assert line.receive(b"\x01\0\0\0ls\r", T) == [b"\0\x01\x03\0"]
    line.receive(b"\x02\0\0\0x", T)
    assert bytes(line.typed) == b"ls\rx"


def test_refusal_waits_and_numbers_wrap_at_fifteen():
    line = Line(1)
    line.output(b"x", T)
    assert line.receive(ack(1, 0, 0x40), T) == []
    for seq in range(1, 20):
        line.receive(ack((seq - 1) % 15 + 1, 1), T)
        [packet] = line.output(b"y", T)
        assert packet[0] == seq % 15 + 1


def test_a_flood_loses_the_oldest_and_says_so():
    line = Line(1)
    line.output(b"first", T)
    line.output(b"a" * BACKLOG + b"the end", T)
    [packet] = line.receive(ack(1, 5), T)
    assert packet[3] == OVERRUN
    assert len(packet) == 4 + CHUNK


def test_activation_is_for_one(bmc, connect, server):
    first, second = connect(), connect()
    request = b"\x01\x01\xc0\0\0\0"
    assert first.command(6, 0x48, request)[0] == 0
    assert second.command(6, 0x48, request) == b"\x80"
    assert second.command(6, 0x4A, b"\1") == b"\0\1\1\0"
    assert second.command(6, 0x4B, b"\1\1")[1:5] == first.session.id.to_bytes(4, "little")
    assert second.command(6, 0x49, b"\1\1\0\0\0\0") == b"\0"
    [(_, datagram)] = server.outbox  # the first one is told
    packet = rmcp.parse(datagram)
    assert first.session.open_(packet) == bytes((0, 0, 0, DEACTIVATED))
    assert second.command(6, 0x48, request)[0] == 0


def test_the_line_is_free_again_when_its_session_is_gone(bmc, connect, server):
    client = connect()
    client.command(6, 0x48, b"\x01\x01\xc0\0\0\0")
    server.printed(b"login: ", client.now)
    assert len(server.outbox) == 1
    server.expire(client.now + 61)
    assert bmc.sol is None


def test_keys_and_text_through_a_session(bmc, connect, server):
    client = connect()
    client.command(6, 0x48, b"\x01\x01\xc0\0\0\0")
    typed = client.session.seal(1, b"\x01\0\0\0root\r", bytes(16))
    assert server.receive(typed, client.now, "peer") == []
    assert server.typed() == b"root\r"
    server.printed(b"Password: ", client.now)
    texts = [client.session.open_(rmcp.parse(datagram)) for _, datagram in server.outbox]
    assert texts == [b"\0\x01\x05\0", b"\x01\0\0\0Password: "]
