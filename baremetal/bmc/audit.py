"""What is dangerous about a BMC: findings by severity, each with what to do.

Looks at what the BMC offers without a login, then, with credentials, at its
accounts. That the password in use is a known factory one costs no attempt.
Others are tried only when the operator allows it: where the BMC can test a
password without a login that is used, else two logins at most, so that no
account gets locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from baremetal.bmc import auditclock, presession
from baremetal.bmc.base import BmcDriver, Identity
from baremetal.bmc.drivers import driver
from baremetal.bmc.faults import BmcAuth, BmcError, BmcUnsupported
from baremetal.bmc.udp import Conversation
from baremetal.bmc.url import BmcUrl

SEVERITIES = ("critical", "high", "medium", "info")
MOST_TRIES = 2
# Published in the vendors' manuals: (user, password).
KNOWN_FACTORY = frozenset(
    {
        ("ADMIN", "ADMIN"),
        ("root", "calvin"),
        ("USERID", "PASSW0RD"),
        ("admin", "admin"),
        ("admin", "password"),
        ("root", "root"),
        ("root", "0penBmc"),
        ("root", "changeme"),
        ("sysadmin", "superuser"),
        ("Administrator", "password"),
    }
)
QUESTION_S = 3.0


@dataclass(frozen=True)
class Finding:
    """One thing to know. `check` is a stable name."""

    severity: str
    check: str
    what: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        return {key: value for key, value in vars(self).items() if value}


async def audit(
    url: BmcUrl, bmc: BmcDriver, *, factory: Sequence[Sequence[str]] = (), password: str = ""
) -> dict[str, Any]:
    """All findings about one BMC, worst first. `password` is the one in use; it is compared, never told."""
    found = in_use(url, password)
    if url.scheme in ("ipmi", "auto"):
        found += await offered(url)
    if url.scheme.startswith("redfish"):
        found += _transport(url)
    who = await bmc.identify()
    found += session(who)
    found += await accounts(bmc)
    found += await network_protocol(bmc)
    found += await auditclock.findings(bmc)
    found += await certificate(bmc)
    known = {url.user} if found and found[0].check == "factory-password" else set()
    found += await _factory(url, bmc, [(str(user), str(secret)) for user, secret in factory if user not in known])
    found.sort(key=lambda one: SEVERITIES.index(one.severity))
    return {
        "firmware": who.firmware,
        "vendor": who.vendor,
        "product": who.product,
        "worst": found[0].severity if found else "none",
        "findings": [one.to_json() for one in found],
    }


async def offered(url: BmcUrl) -> list[Finding]:
    """What RMCP tells everybody."""
    talk = Conversation(url.host, url.port)
    await talk.open()
    try:
        got = await presession.ask(talk, 0x38, bytes((0x8E, 4)), QUESTION_S)
        able = presession.capabilities(got.data) if got and got.code == 0 else None
        suites = await presession.cipher_suites(talk, QUESTION_S)
    finally:
        talk.close()
    return judge(able, suites)


def judge(able: presession.Capabilities | None, suites: tuple[int, ...] | None) -> list[Finding]:
    """Findings of the unauthenticated answers. Pure: the table of the tests."""
    found = [
        Finding(
            "info",
            "rakp-hash",
            "IPMI 2.0 gives a hash of the password to anybody who knows a user name",
            "keep the BMC network apart; use random passwords of 16 to 20 characters",
        )
    ]
    if able is not None:
        if able.anonymous:
            found.append(
                Finding("critical", "anonymous", "logs in without name and password", "disable anonymous login")
            )
        if able.null_users:
            found.append(
                Finding("critical", "null-user", "an account without a name is enabled", "disable user slot 1")
            )
        weak = sorted(set(able.auth15) & {"none", "md2", "password"})
        if weak:
            found.append(
                Finding("high", "ipmi15", f"offers IPMI 1.5 with {', '.join(weak)}", "disable IPMI 1.5 and these types")
            )
        if not able.kg:
            found.append(Finding("info", "kg-unset", "no K_g key is set", "set one where your tools can handle it"))
    if suites is not None:
        if 0 in suites:
            found.append(
                Finding("critical", "cipher-0", "offers cipher suite 0: any password works", "disable suite 0")
            )
        plain = sorted(set(suites) & {1, 2, 6, 7, 11, 15, 16})
        if plain:
            found.append(
                Finding("medium", "no-encryption", f"offers suites without encryption: {plain}", "disable them")
            )
        if not set(suites) & {17}:
            found.append(Finding("medium", "old-cipher", "offers no SHA-256 suite (17)", "update its firmware"))
    return found


def session(who: Identity) -> list[Finding]:
    """What our own session shows."""
    if who.cipher is not None and who.cipher < 17:
        return [
            Finding(
                "info",
                "session-cipher",
                f"this session used cipher suite {who.cipher}",
                "record it; alert when it falls",
            )
        ]
    return []


async def accounts(bmc: BmcDriver) -> list[Finding]:
    """Accounts that should not be there."""
    try:
        users = [user for user in await bmc.users() if user.enabled]
    except BmcUnsupported:
        return []
    except BmcError as exc:
        return [Finding("info", "users-unread", f"accounts could not be listed: {exc.code}")]
    found = []
    if any(not user.name for user in users):
        found.append(Finding("critical", "nameless-user", "an enabled account has no name", "disable it"))
    admins = [user.name for user in users if user.privilege == "administrator" and user.name]
    if len(admins) > 1:
        found.append(Finding("medium", "more-admins", f"{len(admins)} administrators: {', '.join(admins)}", "keep one"))
    return found


async def network_protocol(bmc: BmcDriver) -> list[Finding]:
    """The manager's services, where Redfish tells: clock, and protocols nobody should need."""
    read = getattr(parts_of(bmc)[0], "network_protocol", None)
    if read is None:
        return []
    try:
        services = await read()
    except BmcError as exc:
        return [Finding("info", "services-unread", f"network services could not be read: {exc.code}")]
    return judge_services(services)


def judge_services(services: dict[str, Any]) -> list[Finding]:
    """Findings of a ManagerNetworkProtocol resource. Pure."""
    found = []
    if not (services.get("NTP") or {}).get("ProtocolEnabled", True):
        found.append(Finding("info", "no-ntp", "its clock is not set by NTP", "its event log will carry wrong times"))
    if (services.get("HTTP") or {}).get("ProtocolEnabled"):
        found.append(
            Finding("medium", "http-enabled", "its web service answers without TLS, too", "disable HTTP, keep HTTPS")
        )
    for name in ("Telnet", "SNMP"):
        if (services.get(name) or {}).get("ProtocolEnabled"):
            found.append(Finding("medium", f"{name.lower()}-enabled", f"{name} is enabled", "disable it"))
    return found


def _transport(url: BmcUrl) -> list[Finding]:
    if url.scheme == "redfish+http":
        return [
            Finding("medium", "plain-http", "Redfish without TLS: the password is on the wire", "use redfish+https")
        ]
    verify = url.options.get("verify", "pin")
    if verify == "none":
        return [
            Finding("medium", "tls-unverified", "its certificate is not checked at all", "use ?verify=pin, or a CA")
        ]
    if verify == "pin":
        return [
            Finding(
                "info",
                "tls-first-use",
                "its certificate is trusted at first sight",
                "write ?verify=sha256:… into the address",
            )
        ]
    return []


def in_use(url: BmcUrl, password: str) -> list[Finding]:
    """The password we log in with, when it is a factory's. Nothing is tried for that."""
    if (url.user, password) not in KNOWN_FACTORY:
        return []
    what = f"user {url.user} has the factory password, and it is the one in use"
    return [Finding("critical", "factory-password", what, "change it: baremetal bmc password, or node password")]


async def certificate(bmc: BmcDriver) -> list[Finding]:
    """The TLS certificate of a Redfish service, as the handshake showed it."""
    from baremetal.bmc import audittls

    pin = getattr(getattr(parts_of(bmc)[0], "http", None), "pin", None)
    if pin is None or not pin.certificate:
        return []
    return [Finding(*one) for one in audittls.judge(pin.certificate)]


def parts_of(bmc: BmcDriver) -> list[Any]:
    """The driver itself, or an auto driver's two."""
    inner = getattr(bmc, "inner", bmc)
    return list(getattr(inner, "_order", None) or [inner])


async def _factory(url: BmcUrl, bmc: BmcDriver, pairs: list[tuple[str, str]]) -> list[Finding]:
    """Factory credentials the operator listed; a finding names the user, never the password."""
    found = await _tested(bmc, pairs)
    if found is None:
        found = await _logged_in(url, pairs)
    what = "still has the factory password"
    return [Finding("critical", "factory-password", f"user {user} {what}", "change it now") for user in found]


async def _tested(bmc: BmcDriver, pairs: list[tuple[str, str]]) -> list[str] | None:
    """By IPMI's password test, which is no login; None where there is none."""
    from baremetal.bmc import ipmiusers
    from baremetal.bmc.ipmi import IpmiDriver

    driven = next((part for part in parts_of(bmc) if isinstance(part, IpmiDriver)), None)
    if driven is None or not pairs:
        return None
    try:
        return await ipmiusers.with_password(driven, pairs)
    except BmcError:
        return None


async def _logged_in(url: BmcUrl, pairs: list[tuple[str, str]]) -> list[str]:
    """By logging in: two attempts at one BMC at most."""
    for user, password in pairs[:MOST_TRIES]:
        bmc = driver(replace(url, user=user), password)
        try:
            await bmc.power()
        except BmcAuth:
            continue
        except BmcError:
            return []
        finally:
            await bmc.close()
        return [user]
    return []
