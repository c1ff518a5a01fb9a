"""Pure parts: findings of an audit, FRU texts, sensor formulas, GUIDs, console escapes, recordings, quirks."""

import pytest

from baremetal.bmc import fru, guid, sdr
from baremetal.bmc.audit import judge, judge_services
from baremetal.bmc.base import BootDevice
from baremetal.bmc.consolelog import ConsoleLog, read, replay
from baremetal.bmc.presession import Capabilities, suite_ids
from baremetal.bmc.quirks import Quirks, parse, rules
from baremetal.cli.bmcconsole import Keys
from baremetal.errors import UsageError

GOOD = Capabilities(ipmi20=True, auth15=(), kg=True, anonymous=False, null_users=False)
AUDITS = [  # capabilities, suites, checks found (beside rakp-hash, which always is)
    (GOOD, (3, 17), set()),
    (GOOD, (0, 3, 17), {"cipher-0"}),
    (GOOD, (1, 2, 3), {"no-encryption", "old-cipher"}),
    (GOOD, None, set()),
    (Capabilities(True, ("md5",), True, True, False), (17,), {"anonymous"}),
    (Capabilities(True, ("none", "password"), False, False, True), (17,), {"null-user", "ipmi15", "kg-unset"}),
    (None, (17,), set()),
]


@pytest.mark.parametrize(("able", "suites", "checks"), AUDITS)
def test_audit(able, suites, checks):
    assert {finding.check for finding in judge(able, suites)} == checks | {"rakp-hash"}


SERVICES = [
    ({}, set()),
    ({"NTP": {"ProtocolEnabled": False}, "HTTPS": {"ProtocolEnabled": True}}, {"no-ntp"}),
    (
        {"NTP": None, "HTTP": {"ProtocolEnabled": True}, "SNMP": {"ProtocolEnabled": True}},
        {"http-enabled", "snmp-enabled"},
    ),
]


@pytest.mark.parametrize(("services", "checks"), SERVICES)
def test_audit_of_services(services, checks):
    assert {finding.check for finding in judge_services(services)} == checks


def test_suite_records_with_and_without_oem():
    assert suite_ids(bytes.fromhex("c0030140 81c0110344 81c1800102030144 82".replace(" ", ""))) == (3, 17, 128)


PLACEHOLDERS = [
    ("To be filled by O.E.M.", None),
    ("0123456789", None),
    ("0000000", None),
    ("  SN-17 ", "SN-17"),
    ("N/A", None),
    ("A", "A"),
]


@pytest.mark.parametrize(("text", "kept"), PLACEHOLDERS)
def test_placeholders_are_absent(text, kept):
    assert guid.present(text) == kept


def test_guid_orders():
    raw = bytes.fromhex("44454c4c420010358054b4c04f4d3132")
    assert guid.smbios_text(raw) == "4c4c4544-0042-3510-8054-b4c04f4d3132"
    assert guid.smbios_text(raw, "rfc4122") == "44454c4c-4200-1035-8054-b4c04f4d3132"
    assert guid.smbios_text(raw[::-1], "ipmi") == "44454c4c-4200-1035-8054-b4c04f4d3132"
    assert guid.smbios_text(bytes(16)) is None


FRU_TEXTS = [
    (0, b"\x12\x34", "1234"),
    (1, b"\x12\xc4", "12.4"),
    (2, bytes.fromhex("29dca6"), "IPMI"),
    (3, b"abc\xe9", "abcé"),
]


@pytest.mark.parametrize(("kind", "raw", "text"), FRU_TEXTS)
def test_fru_text_encodings(kind, raw, text):
    assert fru.text_of(kind, raw) == text


FORMULAS = [  # m, b, b_exp, r_exp, analog, raw, value
    (1, 0, 0, 0, "unsigned", 42, 42),
    (1, 0, 0, 0, "twos", 0xF6, -10),
    (1, 0, 0, 0, "ones", 0xF5, -10),
    (100, 0, 0, 0, "unsigned", 55, 5500),
    (6, 10, 1, -2, "unsigned", 200, 13.0),
]


@pytest.mark.parametrize(("m", "b", "b_exp", "r_exp", "analog", "raw", "value"), FORMULAS)
def test_sensor_formula(m, b, b_exp, r_exp, analog, raw, value):
    sensor = sdr.Sensor(1, 0, "t", 1, 1, analog=analog, m=m, b=b, b_exp=b_exp, r_exp=r_exp)
    assert sensor.value(raw) == pytest.approx(value)


KEYS = [  # typed, sent, action
    (b"ls\r", b"ls\r", ""),
    (b"~.", b"", "end"),
    (b"a~.", b"a~.", ""),
    (b"\r~B", b"\r", "break"),
    (b"~~x", b"~x", ""),
    (b"~x", b"~x", ""),
    (b"\n~?", b"\n", "help"),
]


@pytest.mark.parametrize(("typed", "sent", "action"), KEYS)
def test_console_escapes(typed, sent, action):
    assert Keys().feed(typed) == (sent, action)
    keys = Keys()
    one_by_one = [keys.feed(bytes((key,))) for key in typed]
    assert b"".join(part for part, _ in one_by_one) == sent
    assert [found for _, found in one_by_one if found] == ([action] if action else [])


def test_a_recording_keeps_bytes_split_anywhere_and_its_times(tmp_path):
    log = ConsoleLog(tmp_path / "c.cast", "r1-u07", now=1000.0)
    for at, byte in enumerate("grüß\n".encode()):
        log.output(bytes((byte,)), now=1000.0 + at)
    log.mark("lost", now=1100.0)
    log.close()
    again = ConsoleLog(tmp_path / "c.cast", "r1-u07", now=2000.0)
    again.output(b"back", now=2000.0)
    again.close()
    pieces = list(read(tmp_path / "c.cast"))
    assert "".join(text for _, kind, text in pieces if kind == "o") == "grüß\nback"
    assert pieces[-1][0] == 1000.0
    assert max(pause for pause, _ in replay(tmp_path / "c.cast")) == 2.0
    with (tmp_path / "c.cast").open("a") as file:
        file.write('[1.0, "o", "half')
    assert len(list(read(tmp_path / "c.cast"))) == len(pieces)


def test_quirks_are_data_and_apply_by_match():
    assert rules()
    supermicro = Quirks().for_ipmi(10876, 1)
    assert supermicro.selector(BootDevice.DISK, True, 2) == 9
    assert supermicro.selector(BootDevice.DISK, False, 2) == 2
    assert supermicro.because
    assert Quirks().for_ipmi(1, 1) == Quirks()
    assert Quirks().for_redfish("American Megatrends Inc.", None, None).full_boot_object


@pytest.mark.parametrize(
    "text",
    ["[[rule]]\nset={gap_s=1}", '[[rule]]\nmatch={vendr="x"}\nset={}', '[[rule]]\nmatch={vendor="x"}\nset={typo=1}'],
)
def test_quirks_with_mistakes_are_refused(text):
    with pytest.raises(UsageError):
        parse(text)
