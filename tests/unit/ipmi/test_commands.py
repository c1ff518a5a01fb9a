"""What a BMC answers, a command a row."""

from __future__ import annotations

import uuid

import pytest

from baremetal.wire.ipmi.bmc import Identity
from baremetal.wire.ipmi.codes import ChassisControl
from baremetal.wire.ipmi.commands import TABLE
from baremetal.wire.ipmi.message import checksum

REFUSALS = [  # netfn cmd   data                    completion code
    (0x00, 0x02, b"\x02", 0xD5),  # cycle while off
    (0x00, 0x02, b"\x03", 0xD5),  # reset while off
    (0x00, 0x02, b"\x0e", 0xCC),
    (0x00, 0x02, b"", 0xC7),
    (0x00, 0x09, b"\x60\0\0", 0x80),
    (0x00, 0x08, b"\x70\0", 0x80),
    (0x06, 0x99, b"", 0xC1),
    (0x2C, 0x01, b"\xdc", 0xC1),
    (0x06, 0x3B, b"\x05", 0x81),
    (0x0A, 0x11, b"\1\0\0\4", 0xCB),
    (0x0A, 0x11, b"\0\0\0\xff", 0xCA),
    (0x0A, 0x11, b"\0\0\xf0\4", 0xC9),
    (0x0A, 0x23, b"\0\0\x99\0\0\xff", 0xCB),
    (0x04, 0x2D, b"\x77", 0xCB),
    (0x0C, 0x02, b"\1\xc8\0\0", 0x80),
    (0x0C, 0x02, b"\7\3\0\0", 0xCC),
    (0x06, 0x46, b"\x3f", 0xCC),
]


@pytest.mark.parametrize(("netfn", "cmd", "data", "code"), REFUSALS)
def test_refusals(connect, netfn, cmd, data, code):
    assert connect().command(netfn, cmd, data) == bytes((code,))


def test_device_id_is_fifteen_bytes_and_a_code(connect):
    answer = connect().command(6, 1)
    assert len(answer) == 16
    assert answer[:2] == b"\0\x20"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("smbios", "33221100-5544-7766-8899-aabbccddeeff"),
        ("rfc4122", "00112233-4455-6677-8899-aabbccddeeff"),
        ("ipmi", "ffeeddcc-bbaa-9988-7766-554433221100"),
    ],
)
def test_guid_goes_out_in_the_vendor_s_order(bmc, connect, order, expected):
    bmc.identity = Identity(uuid=uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"), guid_order=order)
    assert uuid.UUID(bytes=connect().command(6, 0x37)[1:]) == uuid.UUID(expected)


def test_only_three_commands_answer_outside_a_session(bmc, connect):
    client = connect(login=False)
    open_ones = {key for key in TABLE if client.sessionless(*key, b"\x8e\x04\x80") is not None}
    assert open_ones == {(6, 0x37), (6, 0x38), (6, 0x54)}


def test_a_user_may_look_and_not_touch(bmc, connect):
    client = connect(privilege=2)
    assert client.command(0, 1)[0] == 0
    assert client.command(0, 2, b"\1") == b"\xd4"
    assert bmc.chassis.orders == []


@pytest.mark.parametrize(
    ("order", "on", "carried_out"),
    [
        (ChassisControl.ON, False, True),
        (ChassisControl.ON, True, True),
        (ChassisControl.OFF, True, True),
        (ChassisControl.CYCLE, True, True),
        (ChassisControl.SOFT, True, True),
        (ChassisControl.SOFT, False, False),
    ],
)
def test_power_orders(bmc, connect, order, on, carried_out):
    bmc.chassis.on = on
    connect().command(0, 2, bytes((order,)))
    assert bmc.chassis.orders == ([order] if carried_out else [])


def test_ignored_power_is_acknowledged(bmc, connect):
    bmc.quirks.power_ignored = True
    assert connect().command(0, 2, b"\1") == b"\0"
    assert bmc.chassis.orders == []


def test_power_changes_are_logged(bmc, connect):
    client = connect()
    client.command(0, 2, b"\1")
    client.command(0, 2, b"\1")  # no change, no record
    client.command(0, 2, b"\0")
    assert [record[12] >> 7 for record in bmc.sel.records] == [1, 0]


def test_fru_areas_add_up(bmc):
    data = bytes(bmc.fru)
    assert checksum(data[:8]) == 0
    for start in data[2:5]:
        area = data[start * 8 : start * 8 + data[start * 8 + 1] * 8]
        assert checksum(area) == 0


def test_sdr_chain_is_complete(bmc, connect):
    client, number, seen = connect(), 0, 0
    while number != 0xFFFF:
        answer = client.command(0x0A, 0x23, b"\0\0" + number.to_bytes(2, "little") + b"\0\xff")
        record = answer[3:]
        assert record[4] == len(record) - 5
        number = int.from_bytes(answer[1:3], "little")
        seen += 1
    assert seen == len(bmc.sdrs)


def test_sensor_of_the_system_is_unavailable_while_it_is_off(bmc, connect):
    client = connect()
    assert client.command(4, 0x2D, b"\1")[2] & 0x20
    bmc.chassis.on = True
    assert client.command(4, 0x2D, b"\1")[1:3] == bytes((41, 0xC0))


def test_password_change_takes_effect(bmc, connect):
    client = connect()
    assert client.command(6, 0x47, b"\x82\x02" + b"new".ljust(20, b"\0")) == b"\0"
    assert client.command(6, 0x47, b"\x82\x03" + b"old".ljust(20, b"\0")) == b"\x80"
    assert connect(password=b"new") is not None
    assert connect(login=False).login() == ("rakp4", 0x0F)


def test_busy_rate_one_is_always_busy(bmc, connect):
    client = connect()
    bmc.quirks.busy_rate = 1.0
    assert client.command(6, 1) == b"\xc0"


def test_ping_and_its_absence(bmc, server):
    from baremetal.wire.ipmi import rmcp

    [pong] = server.receive(rmcp.ping(7), 0.0)
    assert (pong[8], pong[9], pong[20]) == (0x40, 7, 0x81)
    bmc.quirks.no_ping = True
    assert server.receive(rmcp.ping(7), 0.0) == []
