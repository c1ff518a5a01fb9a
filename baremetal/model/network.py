"""A provisioning network as the boot plane serves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Mode(StrEnum):
    """Who is answered: machines we know, also unknown ones (to record them), anybody."""

    KNOWN = "known"
    DISCOVER = "discover"
    ANYBODY = "anybody"


@dataclass(frozen=True)
class Network:
    """One subnet. Addresses are dotted quads, `cidr` like 10.0.0.0/24, times in seconds.

    `proxy`: answer boot questions only, beside a foreign DHCP server.
    `ra_prefix`: a ULA /64; when set, router advertisements with lifetime 0 are
    sent (they cure iPXE's 13 s wait for one), silent beside another router.
    `relayed`: the subnet is not on the link; DHCP relays bring its requests to
    `interface`, and `server` is our address there. `reservations`: MAC,
    "uuid:…" or "circuit:…" (a switch port, option 82) -> address, for machines
    that are no nodes. `added`: by `network add`, not by the configuration file.
    """

    name: str
    interface: str
    cidr: str
    server: str
    range_first: str
    range_last: str
    router: str | None = None
    dns: tuple[str, ...] = ()
    domain: str | None = None
    lease_s: int = 3600
    mode: Mode = Mode.KNOWN
    proxy: bool = False
    ra_prefix: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    relayed: bool = False
    reservations: dict[str, str] = field(default_factory=dict)
    added: bool = False
