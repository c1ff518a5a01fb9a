"""A BMC is a URL: scheme, user, host, port, options. Never a password.

ipmi://admin@10.0.0.17:623?cipher=3
redfish+https://root@10.0.0.18/redfish/v1/Systems/1?verify=pin
auto://admin@10.0.0.17       Redfish if its root answers, else IPMI
manual://r1-u07              somebody walks there
fake://sim-1?power_delay_s=2
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from baremetal.errors import UsageError

PORTS = {"ipmi": 623, "redfish+https": 443, "redfish+http": 80, "auto": 623, "manual": 0, "fake": 0}
ALIASES = {"redfish": "redfish+https", "rmcp": "ipmi", "lan": "ipmi", "lanplus": "ipmi"}
# Options by scheme; the fake's are the simulator's own business.
COMMON = {"timeout_s"}
OPTIONS = {
    "ipmi": COMMON | {"cipher", "privilege", "driver", "gap_s"},
    "redfish+https": COMMON | {"verify", "system", "auth"},
    "redfish+http": COMMON | {"system", "auth"},
    "auto": COMMON | {"cipher", "privilege", "driver", "gap_s", "verify", "system", "redfish_port", "auth"},
    "manual": set(),
}
_HOST = re.compile(r"^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?$")


@dataclass(frozen=True)
class BmcUrl:
    """Where a BMC is and how to talk to it.

    `port` 0: the scheme has none. `path` is a Redfish system's path. `user`
    and `options` are decoded text.
    """

    scheme: str
    host: str
    port: int = 0
    user: str = ""
    path: str = ""
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> BmcUrl:
        """Reads a URL; a bare address means IPMI. A mistake is a UsageError that never shows a password."""
        text = text.strip()
        if "://" not in text:
            text = f"ipmi://{text}"
        scheme, _, rest = text.partition("://")
        scheme = ALIASES.get(scheme.lower(), scheme.lower())
        if scheme not in PORTS:
            raise UsageError(f"BMC address: unknown scheme {scheme[:40]!r}", fix=_nearest(scheme, sorted(PORTS)))
        try:
            parts = urlsplit(f"x-bmc://{rest}")
            host, port = parts.hostname or "", parts.port
        except ValueError as exc:
            raise UsageError(f"BMC address cannot be read: {_host_error(exc)}", fix=_example(scheme)) from None
        if parts.password is not None:
            raise UsageError(
                "BMC address holds a password",
                fix="take it out of the URL; give it with --password-file, --password-env or in the nodes file",
            )
        _check_host(scheme, host)
        if port == 0:
            raise UsageError(f"BMC {host}: port 0", fix=_example(scheme))
        options = _options(scheme, parts.query)
        return cls(
            scheme=scheme,
            host=host,
            port=port if port is not None else PORTS[scheme],
            user=unquote(parts.username or "", errors="surrogateescape"),
            path=unquote(parts.path).rstrip("/"),
            options=options,
        )

    @property
    def netloc(self) -> str:
        """host:port as it stands in a URL, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port and self.port != PORTS[self.scheme] else host

    @property
    def key(self) -> str:
        """Same key, same BMC: what "one command in flight per BMC" counts by."""
        if self.scheme in ("manual", "fake"):
            return f"{self.scheme}://{self.host}"
        return self.netloc.lower()

    def option_float(self, name: str, default: float) -> float:
        """A number from the options; UsageError when it is none."""
        text = self.options.get(name)
        if text is None:
            return default
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"BMC {self.netloc}: {name}={text!r} is not a number") from None

    def with_options(self, **changes: str) -> BmcUrl:
        """The same BMC with other options."""
        return replace(self, options={**self.options, **changes})

    def __str__(self) -> str:
        user = quote(self.user, safe="", errors="surrogateescape") + "@" if self.user else ""
        query = "?" + urlencode(self.options) if self.options else ""
        return f"{self.scheme}://{user}{self.netloc}{quote(self.path)}{query}"


def _check_host(scheme: str, host: str) -> None:
    if not host:
        raise UsageError("BMC address has no host", fix=_example(scheme))
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if not _HOST.match(host) or re.fullmatch(r"[0-9.]+", host):
            raise UsageError(
                f"BMC address: {host[:80]!r} is no address and no host name", fix=_example(scheme)
            ) from None


def _options(scheme: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = OPTIONS.get(scheme)
    for name in options:
        if name in ("password", "pass", "kg"):
            raise UsageError(
                f"BMC address: {name} is a secret and does not belong into a URL", fix="give it by file or environment"
            )
        if known is not None and name not in known:
            raise UsageError(
                f"BMC address: unknown option {name[:40]!r} for {scheme}", fix=_nearest(name, sorted(known))
            )
    return options


def _nearest(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else "known: " + ", ".join(known)


def _example(scheme: str) -> str:
    return (
        f"write it like {scheme}://admin@10.0.0.17"
        if scheme not in ("manual", "fake")
        else f"write it like {scheme}://r1-u07"
    )


def _host_error(exc: ValueError) -> str:
    # urlsplit quotes the whole netloc in some messages, user and all: keep only the kind.
    return "bad port" if "ort" in str(exc) else "bad host"
