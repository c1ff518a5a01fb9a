"""LLDP frames: what a switch says, and what is thrown away."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baremetal.agents import lldp

HEAD = lldp.MULTICAST + bytes(6) + b"\x88\xcc"


def tlv(kind: int, value: bytes) -> bytes:
    return ((kind << 9) | len(value)).to_bytes(2, "big") + value


FRAME = HEAD + b"".join(
    [
        tlv(1, b"\x04" + bytes.fromhex("001122334455")),
        tlv(2, b"\x05Ethernet7"),
        tlv(3, b"\x00\x78"),
        tlv(5, b"leaf-3\x1b[31m"),
        tlv(127, b"\x00\x80\xc2\x01\x00\x2a"),
        tlv(0, b""),
    ]
)


def test_a_switch_says_where_the_cable_ends() -> None:
    tlvs = lldp.parse(FRAME)
    assert tlvs[0] == (1, "04001122334455")
    assert lldp.readable(tlvs) == {
        "chassis_id": "00:11:22:33:44:55", "port_id": "Ethernet7", "system_name": "leaf-3?[31m", "vlan": "42",
    }  # fmt: skip


@pytest.mark.parametrize("frame", [b"", HEAD[:13], HEAD + tlv(5, b"abc")[:-1], bytes(60), HEAD + b"\x02"])
def test_what_does_not_add_up_is_nothing(frame: bytes) -> None:
    assert lldp.parse(frame) == []


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    tlvs = lldp.parse(HEAD + data)
    assert len(tlvs) <= lldp.MAX_TLVS
    lldp.readable(tlvs)


def test_rubbish_without_end_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on the same wire sends frames that do not add up, faster than they are thrown away."""

    class Flood:
        def __init__(self, _name: str) -> None:
            self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._theirs.send(HEAD + b"\x02")

        def fileno(self) -> int:
            return self._ours.fileno()

        def recv(self, size: int) -> bytes:
            self._theirs.send(HEAD + b"\x02")
            return self._ours.recv(size)

        def close(self) -> None:
            self._ours.close()
            self._theirs.close()

    monkeypatch.setattr(lldp, "_open", Flood)
    listener = lldp.Listener(["eth0"])
    assert listener.heard(0.1) == {}
    listener.close()
