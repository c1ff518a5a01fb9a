"""One TFTP read, packet by packet, on a clock of our own."""

from __future__ import annotations

import pytest

from baremetal.wire.tftp import packet as t
from baremetal.wire.tftp.blocks import Blocks, PageCache, netascii
from baremetal.wire.tftp.transfer import Outcome, Terms, Transfer, negotiate

CONTENT = bytes(range(256)) * 20  # 5,120 bytes: ten blocks of 512 and an empty one


def blocks(content: bytes = CONTENT, blksize: int = 512) -> Blocks:
    return Blocks("file", len(content), blksize, lambda o, n: content[o : o + n], PageCache())


def transfer(
    window: int = 1, wait_s: float = 0.0, said: dict[str, str] | None = None, content: bytes = CONTENT
) -> Transfer:
    return Transfer(blocks(content), Terms(512, window, wait_s, said or {}), now=0.0)


def numbers(out: bytes | None, segment: int = 516) -> list[int]:
    return [int.from_bytes(out[i + 2 : i + 4], "big") for i in range(0, len(out or b""), segment)] if out else []


def test_lock_step_to_the_empty_last_block() -> None:
    run, out, got = transfer(), None, b""
    out = run.first()
    for n in range(1, 12):
        assert out is not None
        assert out[:4] == bytes((0, 3, 0, n))
        got += out[4:]
        out = run.receive(t.ack(n), now=0.1 * n)
    assert (got, out, run.outcome) == (CONTENT, None, Outcome.DONE)


def test_a_window_is_one_slice() -> None:
    run = transfer(window=4)
    assert numbers(run.first()) == [1, 2, 3, 4]
    assert numbers(run.receive(t.ack(4), now=0.1)) == [5, 6, 7, 8]
    assert numbers(run.receive(t.ack(8), now=0.2)) == [9, 10, 11]
    assert run.receive(t.ack(11), now=0.3) is None
    assert run.outcome is Outcome.DONE


def test_an_ack_inside_the_window_goes_on_after_it() -> None:
    run = transfer(window=4)
    run.first()
    assert numbers(run.receive(t.ack(2), now=0.1)) == [3, 4, 5, 6]


def test_the_ack_before_the_window_repeats_it_once() -> None:
    run = transfer(window=4)
    run.first()
    run.receive(t.ack(4), now=0.1)
    assert run.receive(t.ack(4), now=0.105) is None  # a duplicate of the network
    assert numbers(run.receive(t.ack(4), now=0.2)) == [5, 6, 7, 8]


def test_no_sorcerers_apprentice() -> None:
    run = transfer()
    run.first()
    assert numbers(run.receive(t.ack(1), now=0.1)) == [2]
    assert run.receive(t.ack(1), now=0.2) is None
    assert run.receive(t.ack(0), now=0.2) is None


def test_an_ack_of_the_future_moves_nothing() -> None:
    run = transfer()
    run.first()
    assert run.receive(t.ack(500), now=0.1) is None
    assert run.outcome is None


def test_lost_packets_are_repeated_ever_more_slowly_then_given_up() -> None:
    run, times = transfer(), []
    run.first()
    while run.outcome is None:
        now = run.deadline
        if numbers(run.tick(now)) == [1]:
            times.append(round(now, 1))
    assert times[:4] == [0.3, 0.9, 2.1, 4.5]
    assert run.outcome is Outcome.LOST
    assert 20 < times[-1] < 30


def test_the_clients_timeout_is_kept() -> None:
    run = transfer(wait_s=3.0, said={"timeout": "3"})
    assert run.first() == b"\0\x06timeout\x003\x00"
    assert run.tick(2.9) is None
    assert run.tick(3.0) == b"\0\x06timeout\x003\x00"


def test_data_follows_the_ack_of_the_options() -> None:
    run = transfer(said={"tsize": "5120"})
    run.first()
    assert numbers(run.receive(t.ack(0), now=0.1)) == [1]


def test_firmware_that_only_wanted_the_size() -> None:
    run = transfer(said={"tsize": "5120"})
    run.first()
    assert run.receive(t.error(8, "User aborted the transfer"), now=0.1) is None
    assert run.outcome is Outcome.PROBED


def test_block_numbers_wrap() -> None:
    content = bytes(8 * 65_600)
    run = Transfer(blocks(content, 8), Terms(8, 64, 0.0, {}), now=0.0)
    out: bytes | None = run.first()
    got, n = 0, 0
    while out:
        count = -(-len(out) // 12)
        n += count
        assert out[(count - 1) * 12 + 2 : (count - 1) * 12 + 4] == (n & 0xFFFF).to_bytes(2, "big")
        got += len(out) - 4 * count
        out = run.receive(t.ack(n), now=n / 1000)
    assert (got, run.outcome) == (len(content), Outcome.DONE)


def test_a_window_larger_than_a_slice_comes_in_parts() -> None:
    run = Transfer(blocks(bytes(200_000), 1468), Terms(1468, 64, 0.0, {}), now=0.0)
    first, second = run.first(), run.more()
    assert numbers(first, 1472) + numbers(second, 1472) == list(range(1, 65))
    assert run.more() is None


TERMS = [
    # asked                       acknowledged
    ({"blksize": "1468"}, {"blksize": "1468"}),
    ({"blksize": "65464"}, {"blksize": "1468"}),  # fragments die in firmware
    ({"blksize": "8"}, {"blksize": "8"}),
    ({"blksize": "7"}, {}),
    ({"blksize": "65465"}, {}),
    ({"blksize": "abc"}, {}),
    ({"blksize": "-5"}, {}),
    ({"blksize": "9" * 400}, {}),
    ({"tsize": "0"}, {"tsize": "5120"}),
    ({"timeout": "1"}, {"timeout": "1"}),
    ({"timeout": "0"}, {}),
    ({"timeout": "256"}, {}),
    ({"windowsize": "16"}, {"windowsize": "16"}),
    ({"windowsize": "65535"}, {"windowsize": "64"}),
    ({"windowsize": "0"}, {}),
    ({"multicast": ""}, {}),
]


@pytest.mark.parametrize(("asked", "said"), TERMS)
def test_terms(asked: dict[str, str], said: dict[str, str]) -> None:
    assert negotiate(t.Request("f", "octet", asked), len(CONTENT), 1468).acknowledge == said


NAMES = [
    (b"undionly.kpxe", "undionly.kpxe"),
    (b"/undionly.kpxe", "undionly.kpxe"),
    (b"\\undionly.kpxe", "undionly.kpxe"),
    (b"//a/./b", "a/b"),
]


@pytest.mark.parametrize(("raw", "name"), NAMES)
def test_names(raw: bytes, name: str) -> None:
    assert t.file_name(raw) == name


REFUSED = [
    # request                                    error
    (b"\0\2name\0octet\0", t.ACCESS),
    (b"\0\1../x\0octet\0", t.ACCESS),
    (b"\0\1a\\..\\..\\x\0octet\0", t.ACCESS),
    (b"\0\1\0octet\0", t.NOT_FOUND),
    (b"\0\1\xff\xfe\0octet\0", t.NOT_FOUND),
    (b"\0\1x\x07\0octet\0", t.NOT_FOUND),
    (b"\0\1x\0mail\0", t.ILLEGAL),
    (b"\0\1x\0octet", t.ILLEGAL),
    (b"\0\1x\0", t.ILLEGAL),
    (b"\0\3\0\1x", None),
    (b"\1", None),
    (b"", None),
]


@pytest.mark.parametrize(("raw", "code"), REFUSED)
def test_refused_requests(raw: bytes, code: int | None) -> None:
    with pytest.raises(t.BadPacket) as caught:
        t.parse_request(raw)
    assert caught.value.answer == code


def test_netascii() -> None:
    assert netascii(b"one\ntwo\rthree\r\n") == b"one\r\ntwo\r\0three\r\0\r\n"


def test_a_slow_client_is_given_time() -> None:
    """Its last answer took a second: asking again after 0.3 s would only double the load."""
    run = transfer()
    run.first()
    run.receive(t.ack(1), now=1.0)
    assert run.deadline == pytest.approx(4.0)
    run.receive(t.ack(2), now=1.01)
    assert run.deadline == pytest.approx(1.31)
