"""Compiles a decision into the constant bytes of a reply, once per kind of client; the server then patches.

A scope is one subnet as the server serves it: its Network, its leases, and its
options as bytes.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

from baremetal.model.boot import (
    AddressOnly,
    BootRecord,
    Client,
    Decision,
    Ignore,
    Loader,
    LoadFile,
    LocalDisk,
    Script,
)
from baremetal.model.network import Mode, Network
from baremetal.wire.dhcp4.leases import LeaseTable
from baremetal.wire.dhcp4.options import encode_all
from baremetal.wire.dhcp4.packet import option

# Sent when a client brings no parameter request list.
DEFAULT_LIST = bytes((1, 3, 6, 15))
# PXE discovery control 8: use the boot file of this very offer, look for no boot server (PXE 2.1, tag 6).
PXE_DIRECT = bytes((6, 1, 8, 255))
# Boot menu with the one item "local boot" (type 0) and a prompt that waits 0 s: the firmware goes on to its next
# device at once, instead of searching the network for a minute. Tags 6, 9 and 10 of PXE 2.1.
PXE_LOCAL = bytes((6, 1, 3)) + b"\x09\x08\x00\x00\x05local" + b"\x0a\x06\x00local" + b"\xff"
# iPXE's encapsulated options: sub-option 176 (no-pxedhcp) = 1 spares it 2-3 s of waiting for a proxyDHCP server.
IPXE_NO_PROXY = bytes((176, 1, 1))
SMALLEST_MAX = 548  # bytes every client takes: 576 less IP and UDP headers (RFC 2131 §2)


@dataclass(slots=True, eq=False)
class Scope:
    """One subnet. `options` are what the network sets by name; the rest is derived from Network."""

    network: Network
    leases: LeaseTable
    options: dict[int, bytes]
    server: bytes
    net: int
    mask: int
    rapid_commit: bool
    times: tuple[bytes, bytes]

    @classmethod
    def of(cls, network: Network) -> Scope:
        cidr = ipaddress.IPv4Network(network.cidr)
        named = dict(network.options)
        rapid = named.pop("rapid-commit", "off").lower() in ("on", "true", "1")
        router = (network.router,) if network.router else ()
        never = {network.server, *router, str(cidr.network_address), str(cidr.broadcast_address)}
        options = {
            1: cidr.netmask.packed,
            28: cidr.broadcast_address.packed,
            66: network.server.encode(),
            150: ipaddress.IPv4Address(network.server).packed,
        }
        if router:
            options[3] = ipaddress.IPv4Address(router[0]).packed
        if network.dns:
            options[6] = b"".join(ipaddress.IPv4Address(a).packed for a in network.dns)
        if network.domain:
            options[15] = network.domain.encode("idna")
        options.update(encode_all(named))
        return cls(
            network=network,
            leases=LeaseTable(network.range_first, network.range_last, never),
            options=options,
            server=ipaddress.IPv4Address(network.server).packed,
            net=int(cidr.network_address),
            mask=int(cidr.netmask),
            rapid_commit=rapid,
            times=lease_times(network.lease_s),
        )

    def contains(self, ip: int) -> bool:
        return ip & self.mask == self.net


@dataclass(slots=True, eq=False)
class Template:
    """A reply but for addresses, ids and times.

    `names` are sname and file (192 bytes), `tail` the options that follow the
    lease times, `short` the same without what the client merely asked for,
    `limit` the longest payload the client takes. `asks_times`: T1 and T2 too.
    `boots`: a boot client, not an operating system. `told` is its part of the
    event that tells of it. `bodies`: message type -> what replies/_body made of
    it with the network's own lease times.
    """

    decision: Decision
    client: Client
    siaddr: bytes
    names: bytes
    tail: bytes
    short: bytes
    limit: int
    asks_times: bool
    boots: bool
    silent: bool
    mode: Mode
    told: dict[str, str]
    bodies: dict[int, bytes] = field(default_factory=dict)


def compile_template(
    decision: Decision,
    client: Client,
    scope: Scope,
    record: BootRecord | None,
    wanted: bytes | None,
    max_size: bytes | None,
) -> Template:
    """`wanted` is option 55 as it came, `max_size` option 57."""
    boot_file, always = boot_options(decision, client)
    file = boot_file.encode("ascii", "replace")
    offered = dict(scope.options)
    if record is not None and _is_hostname(record.name):
        offered[12] = record.name.encode("ascii")
    if boot_file:
        offered[67] = file
    else:
        offered.pop(66, None)
        offered.pop(150, None)
    if len(file) > 127:  # does not fit the fixed field: option 67 must carry it
        always[67] = file
        file = b""
    codes = [c for c in dict.fromkeys(wanted or DEFAULT_LIST) if c in offered and c not in always]
    # The mask stands before the router (RFC 2132 §3.3); the rest in the client's order (§9.8).
    codes.sort(key=lambda c: c != 1)
    extra = b"".join(option(c, offered[c]) for c in codes)
    short = b"".join(option(c, always[c]) for c in always)
    mask = option(1, offered[1]) if 1 in codes else b""
    return Template(
        decision=decision,
        client=client,
        siaddr=scope.server if boot_file else b"\0\0\0\0",
        names=(bytes(64) + file).ljust(192, b"\0"),
        tail=extra + short,
        short=mask + short,
        limit=max(SMALLEST_MAX, int.from_bytes(max_size or b"", "big") - 28)
        if len(max_size or b"") == 2
        else SMALLEST_MAX,
        asks_times=58 in (wanted or b"") or 59 in (wanted or b""),
        boots=client.loader is not Loader.NONE,
        silent=isinstance(decision, Ignore),
        mode=scope.network.mode,
        told={
            "arch": str(client.arch),
            "loader": str(client.loader),
            "network": scope.network.name,
            "decision": describe(decision),
            "because": decision.because,
        },
    )


def boot_options(decision: Decision, client: Client) -> tuple[str, dict[int, bytes]]:
    """Boot file (or URL) and the options that make this client use it."""
    match decision:
        case Ignore() | AddressOnly():
            return "", {}
        case Script(url=url):
            return url, {**_class_of(client), 175: IPXE_NO_PROXY}
        case LoadFile(name=name):
            if client.loader is Loader.HTTP:
                return name, _class_of(client)
            return name, {**_class_of(client), 43: PXE_DIRECT}
        case LocalDisk(script=script):
            if client.loader is Loader.IPXE:
                return script or "", {**_class_of(client), 175: IPXE_NO_PROXY}
            if client.loader is Loader.HTTP:
                return "", {}
            return "", {**_class_of(client), 43: PXE_LOCAL}


def _class_of(client: Client) -> dict[int, bytes]:
    """Option 60 marks the answer as one for boot clients (PXE 2.1, UEFI 2.10 §24.7)."""
    return {60: b"HTTPClient" if client.loader is Loader.HTTP else b"PXEClient"}


def _is_hostname(name: str) -> bool:
    return name.isascii() and name.replace("-", "").replace(".", "").isalnum() and len(name) <= 253


def lease_times(lease_s: int) -> tuple[bytes, bytes]:
    """Option 51 alone, and with T1 = 1/2 and T2 = 7/8 of it (RFC 2131 §4.4.5)."""
    alone = struct.pack("!BBI", 51, 4, lease_s)
    return alone, alone + struct.pack("!BBIBBI", 58, 4, lease_s // 2, 59, 4, lease_s * 7 // 8)


def describe(decision: Decision) -> str:
    """One word (and a name) for events: what was answered."""
    match decision:
        case Ignore():
            return "ignore"
        case LoadFile(name=name):
            return name if name.startswith("http") else f"tftp:{name}"
        case Script(url=url):
            return f"script:{url}"
        case LocalDisk():
            return "local-disk"
        case AddressOnly():
            return "address-only"
