"""Session set-up: who gets in, and which status says why not."""

from __future__ import annotations

import pytest

from baremetal.wire.ipmi.crypto import SUITES

LOGINS = [  # suite  user      password   privilege  ends at   status
    (3, b"admin", b"secret", 4, "rakp4", 0x00),
    (17, b"admin", b"secret", 4, "rakp4", 0x00),
    (3, b"admin", b"secret", 2, "rakp4", 0x00),
    (3, b"admin", b"wrong", 4, "rakp4", 0x0F),
    (17, b"admin", b"secret\1", 4, "rakp4", 0x0F),
    (3, b"nobody", b"secret", 4, "rakp2", 0x0D),
    (3, b"", b"", 4, "rakp2", 0x0D),
    (3, b"oper", b"only", 3, "rakp4", 0x00),
    (3, b"oper", b"only", 4, "rakp2", 0x0A),
    (3, b"\xff\xfe", bytes(range(1, 21)), 4, "rakp4", 0x00),
    (3, b"empty", b"", 4, "rakp4", 0x00),
]


@pytest.mark.parametrize(("suite", "name", "password", "privilege", "stage", "status"), LOGINS)
def test_logins(bmc, connect, suite, name, password, privilege, stage, status):
    for slot, (user, secret, limit) in enumerate(
        ((b"oper", b"only", 3), (b"\xff\xfe", bytes(range(1, 21)), 4), (b"empty", b"", 4)), 3
    ):
        bmc.users[slot].name, bmc.users[slot].password = user, secret
        bmc.users[slot].privilege, bmc.users[slot].enabled = limit, True
    client = connect(login=False, suite=suite, name=name, password=password)
    assert client.login(privilege) == (stage, status)


def test_refused_suite_says_so(bmc, connect):
    bmc.suites = (17,)
    assert connect(login=False, suite=3).login() == ("open", 0x11)


def test_wrong_password_fault_fits_nobody(bmc, connect):
    bmc.quirks.wrong_password = True
    assert connect(login=False).login() == ("rakp4", 0x0F)


def test_no_slot_left(bmc, connect):
    bmc.max_sessions = 0
    assert connect(login=False).login() == ("open", 0x01)


def test_repeated_handshake_messages_cost_no_slot(bmc, server, connect):
    """A lost reply makes a client repeat itself; the answers must be the same."""
    bmc.max_sessions = 1
    client = connect(login=False)
    first, second = client.open(), client.open()
    assert first[1] == second[1] == 0
    assert first[8:12] == second[8:12]
    assert client.rakp1(first[8:12])[8:24] == client.rakp1(first[8:12])[8:24]
    assert len(server.sessions) == 1


def test_half_open_sessions_expire(server, connect):
    connect(login=False).open()
    server.expire(1000 + 16)
    assert not server.sessions


def test_idle_sessions_expire_and_used_ones_stay(server, connect):
    client = connect()
    client.now += 59
    assert client.command(6, 1) is not None
    client.now += 59
    server.expire(client.now)
    assert client.command(6, 1) is not None
    server.expire(client.now + 61)
    assert client.command(6, 1) is None


def test_kg_is_the_second_key(bmc, connect):
    bmc.kg = b"second key"
    with pytest.raises(AssertionError):  # the client above knows no K_g: its RAKP 4 check fails
        connect(login=False).login()


def test_suite_zero_asks_nothing(bmc, server):
    """The famous hole; an audit must find it when it is open."""
    assert SUITES[0].exchange_code(b"key", b"data") == b""
    assert 0 not in bmc.suites


@pytest.mark.parametrize("suite", [3, 17])
def test_forged_and_replayed_packets_are_silence(connect, server, suite):
    client = connect(suite=suite)
    good = client.datagram(6, 1)
    for at in range(4, len(good)):
        forged = bytearray(good)
        forged[at] ^= 0x01
        assert server.receive(bytes(forged), client.now, "peer") == []
    assert len(server.receive(good, client.now, "peer")) == 1
    assert server.receive(good, client.now, "peer") == []


def test_session_belongs_to_its_peer(connect, server):
    client = connect()
    assert server.receive(client.datagram(6, 1), client.now, "somebody else") == []


def test_close(connect, server):
    client = connect()
    number = client.session.id.to_bytes(4, "little")
    assert client.command(6, 0x3C, b"\1\2\3\4") == b"\x87"
    assert client.command(6, 0x3C, number) == b"\0"
    assert not server.sessions


def test_hang_after_login(bmc, connect):
    client = connect()
    bmc.quirks.hang_after_login = True
    assert client.command(6, 1) is None
    assert connect(login=False).login() == ("rakp4", 0)
