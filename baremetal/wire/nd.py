"""IPv6 router advertisements and solicitations (RFC 4861), as bytes. Opens no socket; serve/ra.py does.

Why a provisioning server speaks them at all: iPXE configures IPv6 beside IPv4
and waits 13 s for a router. One advertisement with router lifetime 0 ("I am no
router") ends the wait.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from baremetal.errors import BaremetalError

SOLICITATION, ADVERTISEMENT = 133, 134
PREFIX_LIFETIME_S = 86400
ON_LINK, AUTONOMOUS = 0x80, 0x40


class BadMessage(BaremetalError):
    """These bytes are no ICMPv6 router message."""

    code = "nd-packet"


@dataclass(frozen=True)
class Advertisement:
    """What another router says. `lifetime_s` 0: it is no default router."""

    lifetime_s: int
    prefixes: tuple[str, ...]


def advertisement(prefix: str, source_mac: bytes) -> bytes:
    """ICMPv6 body (the kernel fills in the checksum): router lifetime 0, one prefix for addresses of their own."""
    network = ipaddress.IPv6Network(prefix)
    if network.prefixlen != 64 or not network.network_address.is_private:
        raise BadMessage(f"{prefix} is no unique local /64", fix="use one of fd00::/8, such as fd12:3456:789a:1::/64")
    head = struct.pack("!BBHBBHII", ADVERTISEMENT, 0, 0, 64, 0, 0, 0, 0)
    info = struct.pack("!BBBBIII16s", 3, 4, 64, ON_LINK | AUTONOMOUS, PREFIX_LIFETIME_S, PREFIX_LIFETIME_S // 2, 0,
                       network.network_address.packed)  # fmt: skip
    return head + info + b"\x01\x01" + source_mac


def is_solicitation(data: bytes) -> bool:
    """A machine asks for routers."""
    return len(data) >= 8 and data[0] == SOLICITATION and data[1] == 0


def parse_advertisement(data: bytes) -> Advertisement | None:
    """None: not an advertisement. BadMessage: one that lies about its lengths."""
    if len(data) < 16 or data[0] != ADVERTISEMENT or data[1] != 0:
        return None
    prefixes, at = [], 16
    while at < len(data):
        size = data[at + 1] * 8 if at + 1 < len(data) else 0
        if size == 0 or at + size > len(data):
            raise BadMessage("router advertisement: an option overruns")
        if data[at] == 3 and size == 32:
            prefixes.append(f"{ipaddress.IPv6Address(data[at + 16 : at + 32])}/{data[at + 2]}")
        at += size
    return Advertisement(data[6] << 8 | data[7], tuple(prefixes))
