"""DHCP options as data by name: {"ntp-server": "10.0.0.1, 10.0.0.2"} -> (42, bytes).

Names are those of dnsmasq where it has one. A number is a name too: "224".
Values of unknown kind: text, or hex after "hex:".
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Mapping

from baremetal.errors import UsageError

# code: (name, kind). Sources: RFC 2132, 3397, 3442, 4578, 5859, 5970, 8910 and ipxe.org/howto/dhcpd.
TABLE: dict[int, tuple[str, str]] = {
    1: ("netmask", "ip"),
    2: ("time-offset", "i32"),
    3: ("router", "ips"),
    4: ("time-server", "ips"),
    6: ("dns-server", "ips"),
    7: ("log-server", "ips"),
    9: ("lpr-server", "ips"),
    12: ("hostname", "text"),
    13: ("bootfile-size", "u16"),
    15: ("domain-name", "text"),
    16: ("swap-server", "ip"),
    17: ("root-path", "text"),
    18: ("extension-path", "text"),
    19: ("ip-forward-enable", "flag"),
    22: ("max-datagram-reassembly", "u16"),
    23: ("default-ttl", "u8"),
    26: ("mtu", "u16"),
    27: ("all-subnets-local", "flag"),
    28: ("broadcast", "ip"),
    31: ("router-discovery", "flag"),
    33: ("static-route", "ips"),
    35: ("arp-timeout", "u32"),
    37: ("tcp-ttl", "u8"),
    40: ("nis-domain", "text"),
    41: ("nis-server", "ips"),
    42: ("ntp-server", "ips"),
    43: ("vendor-encap", "hex"),
    44: ("netbios-ns", "ips"),
    46: ("netbios-nodetype", "u8"),
    49: ("x-windows-dm", "ips"),
    60: ("vendor-class", "text"),
    64: ("nis+-domain", "text"),
    65: ("nis+-server", "ips"),
    66: ("tftp-server", "text"),
    67: ("bootfile-name", "text"),
    69: ("smtp-server", "ips"),
    100: ("posix-timezone", "text"),
    101: ("tzdb-timezone", "text"),
    114: ("captive-portal", "text"),
    119: ("domain-search", "domains"),
    120: ("sip-server", "hex"),
    121: ("classless-static-route", "routes"),
    125: ("vendor-id-encap", "hex"),
    128: ("pxe-128", "hex"),
    129: ("pxe-129", "hex"),
    130: ("pxe-130", "hex"),
    131: ("pxe-131", "hex"),
    132: ("pxe-132", "hex"),
    133: ("pxe-133", "hex"),
    134: ("pxe-134", "hex"),
    135: ("pxe-135", "hex"),
    150: ("tftp-server-address", "ips"),
    175: ("ipxe-encap", "hex"),
    209: ("config-file", "text"),
    210: ("path-prefix", "text"),
    252: ("wpad", "text"),
}
BY_NAME = {name: code for code, (name, _) in TABLE.items()}
# What the server itself says; a network cannot set them.
RESERVED = frozenset((0, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 77, 82, 93, 94, 97, 255))


def encode_all(options: Mapping[str, str]) -> dict[int, bytes]:
    """Named options of a network -> code: bytes. UsageError names the bad one."""
    return dict(encode(name, value) for name, value in options.items())


# Named like an option, but a switch of the server.
SWITCHES = frozenset(("rapid-commit",))


def check(options: Mapping[str, str]) -> None:
    """UsageError names the first that does not exist or whose value does not fit."""
    encode_all({name: value for name, value in options.items() if name not in SWITCHES})


def encode(name: str, value: str) -> tuple[int, bytes]:
    """One named option."""
    code = number(name)
    kind = TABLE[code][1] if code in TABLE else "hex"
    try:
        return code, _CODERS[kind](value.strip())
    except (ValueError, UnicodeEncodeError, struct.error) as exc:
        raise UsageError(
            f"DHCP option {name}: {value!r} does not fit", detail=str(exc), fix=f"expected {_HELP[kind]}"
        ) from None


def number(name: str) -> int:
    """Option name or decimal number -> code."""
    key = name.strip().lower().replace("_", "-")
    code = BY_NAME.get(key)
    if code is None and key.isdecimal():
        code = int(key)
    if code is None or not 0 < code < 255:
        raise UsageError(f"no DHCP option is called {name!r}", fix=f"one of: {', '.join(sorted(BY_NAME))}, or a number")
    if code in RESERVED:
        raise UsageError(f"DHCP option {name} is the server's own", fix="leave it out: leases set it")
    return code


def name_of(code: int) -> str:
    """Name for people; the number when it has none."""
    return TABLE[code][0] if code in TABLE else str(code)


def _ips(text: str) -> bytes:
    parts = [p for p in text.replace(",", " ").split() if p]
    if not parts:
        raise ValueError("no address")
    return b"".join(ipaddress.IPv4Address(p).packed for p in parts)


def _text(text: str) -> bytes:
    raw = text.encode("ascii")
    if not raw or any(b < 32 for b in raw):
        raise ValueError("empty, or control characters in it")
    return raw


def _hex(text: str) -> bytes:
    if text.lower().startswith("hex:"):
        return bytes.fromhex(text[4:].replace(":", " "))
    return _text(text)


def _flag(text: str) -> bytes:
    if text.lower() not in ("on", "off", "true", "false", "1", "0"):
        raise ValueError("neither on nor off")
    return b"\x01" if text.lower() in ("on", "true", "1") else b"\x00"


def _domains(text: str) -> bytes:
    """RFC 1035 names, uncompressed (RFC 3397 allows that)."""
    out = b""
    for domain in text.replace(",", " ").split():
        for label in domain.strip(".").split("."):
            raw = label.encode("idna") if label else b""
            if not 0 < len(raw) < 64:
                raise ValueError(f"{domain!r} is no domain")
            out += bytes((len(raw),)) + raw
        out += b"\0"
    if not out:
        raise ValueError("no domain")
    return out


def _routes(text: str) -> bytes:
    """ "10.0.0.0/8 via 192.168.0.1, …" (RFC 3442)."""
    out = b""
    for part in text.split(","):
        net, _, gateway = part.strip().partition(" via ")
        network = ipaddress.IPv4Network(net.strip())
        significant = (network.prefixlen + 7) // 8
        out += bytes((network.prefixlen,)) + network.network_address.packed[:significant]
        out += ipaddress.IPv4Address(gateway.strip()).packed
    return out


_CODERS: dict[str, Callable[[str], bytes]] = {
    "ip": lambda t: ipaddress.IPv4Address(t).packed,
    "ips": _ips,
    "u8": lambda t: struct.pack("!B", int(t)),
    "u16": lambda t: struct.pack("!H", int(t)),
    "u32": lambda t: struct.pack("!I", int(t)),
    "i32": lambda t: struct.pack("!i", int(t)),
    "flag": _flag,
    "text": _text,
    "hex": _hex,
    "domains": _domains,
    "routes": _routes,
}
_HELP = {
    "ip": "one IPv4 address",
    "ips": "IPv4 addresses, separated by commas",
    "u8": "a number 0-255",
    "u16": "a number 0-65535",
    "u32": "a number",
    "i32": "a number, may be negative",
    "flag": "on or off",
    "text": "ASCII text",
    "hex": "text, or hex:01:02:03",
    "domains": "domain names, separated by commas",
    "routes": "10.0.0.0/8 via 192.168.0.1, …",
}
