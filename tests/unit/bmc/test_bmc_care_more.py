"""Passwords, soft off, audits, clocks, certificates, fleets' firmware: decisions without a BMC."""

import datetime
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from baremetal.bmc import audittls, passwords
from baremetal.bmc.auditclock import age, clock
from baremetal.bmc.base import BmcAuth, BmcError, BmcLied, Power, PowerOp, Reading
from baremetal.bmc.careful import Care, Careful
from baremetal.bmc.fake import FakeDriver, machine
from baremetal.bmc.softoff import soft_off
from baremetal.bmc.tlspin import with_pin
from baremetal.bmc.url import BmcUrl
from baremetal.cli.bmcaccounts import version_key
from baremetal.errors import UsageError
from baremetal.workflows.bmchealth import alarms

URL = BmcUrl.parse("fake://care")


def fake(name="care", password="pw"):
    return FakeDriver(BmcUrl.parse(f"fake://{name}"), password)


async def test_refused_credentials_say_until_when_they_rest_and_new_ones_do_not():
    machine("care").password = "right"
    bmc = Careful(fake(password="wrong"), "care", Care(auth_rest_s=60.0))
    with pytest.raises(BmcAuth) as first:
        await bmc.power()
    before = machine("care").commands
    with pytest.raises(BmcAuth) as second:
        await bmc.power()
    assert machine("care").commands == before
    clocks = [time.strftime("%H:%M:%S", time.localtime(time.time() + left)) for left in (58, 59, 60, 61)]
    for error in (first, second):
        assert "60 s" in error.value.fix
        assert any(clock in error.value.fix for clock in clocks)
    assert await Careful(fake(password="right"), "care").power() is Power.OFF
    machine("care").password = None


async def test_attempts_are_kept_with_their_outcome():
    bmc = Careful(fake("busy"), "busy", Care(pause_s=0.001, reads=3))
    machine("busy").faults.add("busy")
    began = time.monotonic()
    with pytest.raises(BmcError):
        await bmc.power()
    assert [one["outcome"] for one in bmc.attempts_since(began)] == ["bmc-busy"] * 3


class Stubborn(FakeDriver):
    """Hears the soft button and does nothing."""

    async def set_power(self, op):
        if op is not PowerOp.SOFT:
            await super().set_power(op)


@pytest.mark.parametrize(("then_off", "how"), [(True, "forced"), (False, None)])
async def test_a_system_that_does_not_shut_down(then_off, how):
    machine("stubborn").powered = True
    bmc = Careful(Stubborn(BmcUrl.parse("fake://stubborn"), ""), "stubborn")
    if how is None:
        with pytest.raises(BmcLied, match="still on"):
            await soft_off(bmc, "stubborn", patience_s=0.01, then_off=then_off)
        assert machine("stubborn").powered
    else:
        assert await soft_off(bmc, "stubborn", patience_s=0.01, then_off=then_off) == how
        assert not machine("stubborn").powered
        assert await soft_off(bmc, "stubborn", patience_s=0.01, then_off=then_off) == "already-off"


BAD_PASSWORDS = [  # scheme, password, said
    ("ipmi", "x" * 21, "21 bytes"),
    ("ipmi", "é" * 11, "22 bytes"),
    ("auto", "x" * 21, "21 bytes"),
    ("redfish", "", "empty"),
    ("ipmi", "a\0b", "zero byte"),
]


@pytest.mark.parametrize(("scheme", "password", "said"), BAD_PASSWORDS)
def test_passwords_no_bmc_can_have(scheme, password, said):
    with pytest.raises(UsageError, match=said):
        passwords.checked(BmcUrl.parse(f"{scheme}://a@10.0.0.1"), password)


def test_random_passwords():
    made = {passwords.random_password(16) for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 16 and set(one) <= set(passwords.ALPHABET) for one in made)


NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)


def certificate(until, key=None, since=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bmc")])
    since = since or datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 7, since, until)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def days(count):
    return NOW + datetime.timedelta(days=count)


CERTIFICATES = [
    (certificate(days(400)), {"tls-self-signed"}),
    (certificate(days(-1)), {"tls-self-signed", "tls-expired"}),
    (certificate(days(10)), {"tls-self-signed", "tls-expires"}),
    (certificate(days(900), since=days(1)), {"tls-self-signed", "tls-not-yet"}),
    (certificate(days(400), rsa.generate_private_key(65537, 1024)), {"tls-self-signed", "tls-key"}),
    (b"no certificate", {"tls-unreadable"}),
    (b"", {"tls-unreadable"}),
]


@pytest.mark.parametrize(("der", "checks"), CERTIFICATES)
def test_certificates(der, checks):
    assert {check for _, check, _, _ in audittls.judge(der, NOW)} == checks


CLOCKS = [
    (None, []),
    (1_790_000_000.0, []),
    (1_790_000_100.0, []),
    (1_790_000_000.0 + 7200, ["clock-off"]),
    (1_790_000_000.0 - 86400 * 400, ["clock-off"]),
    (12345.0, ["clock-unset"]),
]


@pytest.mark.parametrize(("seen", "checks"), CLOCKS)
def test_clocks(seen, checks):
    found = clock(seen, 1_790_000_000.0)
    assert [one.check for one in found] == checks
    assert all("time zone" in one.what for one in found if seen == 1_790_007_200.0)


@pytest.mark.parametrize(
    ("released", "old"),
    [("2020-07-30T00:00:00Z", True), ("2026-01-01", False), ("1970-01-01", False), ("00:00:00Z", False), (None, False)],
)
def test_firmware_age(released, old):
    assert bool(age(released, datetime.date(2026, 11, 21))) is old


def test_versions_in_order():
    assert sorted(["2.10.1", "2.9", "2.10", "01.63"], key=version_key) == ["01.63", "2.9", "2.10", "2.10.1"]


def reading(name, state):
    return Reading(name, "Temperature", "°C", 1.0, state)


ALARMS = [  # before, readings, after
    ({}, [("a", "ok")], {}),
    ({}, [("a", "critical")], {"a": "critical"}),
    ({"a": "critical"}, [("a", "warning")], {"a": "warning"}),
    ({"a": "critical"}, [("a", "ok")], {}),
    ({"a": "critical"}, [("a", "unknown")], {"a": "critical"}),
    ({"a": "critical"}, [("a", "absent")], {}),
    ({"a": "critical"}, [], {}),
]


@pytest.mark.parametrize(("before", "seen", "after"), ALARMS)
def test_alarms(before, seen, after):
    assert alarms([reading(name, state) for name, state in seen], before) == after


PIN = "ab" * 32
PINNED = [  # address, seen, used
    ("redfish+https://a@h", PIN, f"redfish+https://a@h?verify=sha256%3A{PIN}"),
    ("redfish+https://a@h?verify=pin", PIN, f"redfish+https://a@h?verify=sha256%3A{PIN}"),
    ("auto://a@h", PIN, f"auto://a@h?verify=sha256%3A{PIN}"),
    ("redfish+https://a@h?verify=ca", PIN, "redfish+https://a@h?verify=ca"),
    ("redfish+http://a@h", PIN, "redfish+http://a@h"),
    ("ipmi://a@h", PIN, "ipmi://a@h"),
    ("redfish+https://a@h", None, "redfish+https://a@h"),
    ("redfish+https://a@h", "", "redfish+https://a@h"),
]


@pytest.mark.parametrize(("url", "seen", "used"), PINNED)
def test_a_certificate_seen_once_is_the_only_one_from_then_on(url, seen, used):
    assert with_pin(url, seen) == used
