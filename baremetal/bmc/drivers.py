"""Makes a bare driver of a URL and its secrets. The heavy modules are imported only by the scheme that needs them."""

from __future__ import annotations

from baremetal.bmc.base import BmcDriver
from baremetal.bmc.faults import BmcUnsupported
from baremetal.bmc.link import IpmiLink, Login
from baremetal.bmc.url import BmcUrl
from baremetal.errors import UsageError

DEFAULT_TIMEOUT_S = 20.0


def to_bytes(text: str) -> bytes:
    """A user name or password as the wire carries it; any byte can be said (surrogateescape)."""
    return text.encode("utf-8", "surrogateescape")


def driver(url: BmcUrl, password: str, kg: str | None = None) -> BmcDriver:
    """The driver that speaks to this BMC, without any care above it."""
    match url.scheme:
        case "manual":
            from baremetal.bmc.manual import ManualDriver

            return ManualDriver(url.host)
        case "fake":
            from baremetal.bmc.fake import FakeDriver

            return FakeDriver(url, password)
        case "ipmi":
            from baremetal.bmc.ipmi import IpmiDriver

            link = ipmi_link(url, password, kg)
            link.gap_s = url.option_float("gap_s", 0.0)
            return IpmiDriver(link, url.netloc)
        case "redfish+https" | "redfish+http":
            from baremetal.bmc.redfish import RedfishDriver

            return RedfishDriver(url, password)
        case "auto":
            from baremetal.bmc.auto import AutoDriver

            return AutoDriver(url, password, kg)
        case _:
            raise BmcUnsupported(
                f"{url.netloc}: no driver for {url.scheme}", fix="known: ipmi, redfish, auto, manual, fake"
            )


def ipmi_link(url: BmcUrl, password: str, kg: str | None = None) -> IpmiLink:
    """The session under an IPMI driver: our own RMCP+ client, or pyghmi by `?driver=pyghmi`."""
    login = ipmi_login(url, password, kg)
    name = url.options.get("driver", "rmcp")
    if name == "rmcp":
        from baremetal.bmc.rmcp import RmcpLink

        return RmcpLink(login)
    if name == "pyghmi":
        from baremetal.bmc.pyghmilink import PyghmiLink

        return PyghmiLink(login)
    raise UsageError(f"BMC {url.netloc}: unknown driver {name!r}", fix="known: rmcp, pyghmi")


def ipmi_login(url: BmcUrl, password: str, kg: str | None = None) -> Login:
    """The options of an IPMI URL, checked."""
    user, secret = to_bytes(url.user), to_bytes(password)
    if len(user) > 16:
        raise UsageError(
            f"BMC {url.netloc}: the user name has {len(user)} bytes", fix="IPMI user names have at most 16"
        )
    if len(secret) > 20:
        raise UsageError(
            f"BMC {url.netloc}: the password has {len(secret)} bytes", fix="IPMI passwords have at most 20"
        )
    cipher = url.options.get("cipher")
    if cipher is not None and cipher not in ("3", "17"):
        raise UsageError(f"BMC {url.netloc}: cipher suite {cipher!r}", fix="3 or 17; others do not protect the session")
    privilege = url.options.get("privilege")
    privilege = {"admin": "administrator"}.get(privilege or "", privilege)
    if privilege not in (None, "administrator", "operator", "user"):
        raise UsageError(f"BMC {url.netloc}: privilege {privilege!r}", fix="administrator, operator or user")
    return Login(
        host=url.host,
        port=url.port,
        user=user,
        password=secret,
        kg=to_bytes(kg) if kg else None,
        cipher=int(cipher) if cipher else None,
        privilege=privilege,
        timeout_s=url.option_float("timeout_s", DEFAULT_TIMEOUT_S),
    )
