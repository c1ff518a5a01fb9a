"""Puts replies together: slices of the request, the lease, and a compiled Template. No I/O."""

from __future__ import annotations

from enum import IntEnum

from baremetal.wire.dhcp4.packet import ACK, MAGIC, NAK, NO_ADDRESS, SHORTEST_REPLY, option, sub_options
from baremetal.wire.dhcp4.templates import PXE_DIRECT, Scope, Template


class Route(IntEnum):
    """How a reply travels."""

    BROADCAST = 0  # 255.255.255.255, from the interface
    RAW = 1  # an Ethernet frame to the client's hardware address: it has no address to ask ARP for
    UNICAST = 2  # plain UDP to port 68
    RELAY = 3  # plain UDP to the relay's port 67


# payload, how it travels, to which address, to which hardware address (RAW)
Sent = tuple[bytes, Route, bytes, bytes]

ETHERNET = b"\x01\x06"
NO_TIMES = (b"", b"")
# Looking up an enum's member is slow, and this is done for every packet.
_BROADCAST, _RAW, _UNICAST, _RELAY = Route
NOWHERE = b"\0\0\0\0\0\0"
_TYPE = [b"" if t == 0 else bytes((53, 1, t)) for t in range(14)]
_ZEROS = bytes(64)


def reply(
    kind: int,
    data: bytes,
    options: dict[int, bytes],
    scope: Scope,
    template: Template,
    yiaddr: bytes,
    times: tuple[bytes, bytes],
    *,
    rapid: bool = False,
    proxy: bool = False,
) -> Sent:
    """OFFER, ACK, or (kind 0) BOOTP. `times` without and with T1 and T2; `proxy`: boot data only."""
    giaddr = data[24:28]
    relayed = giaddr != NO_ADDRESS
    named = (override(options) or scope.server) if relayed else scope.server
    echo = _echo(options) + b"\xff" if 61 in options or 82 in options or 118 in options else b"\xff"
    if template.boots and 97 in options:
        echo = option(97, options[97]) + echo
    ciaddr = data[12:16]
    head = b"".join(
        (
            b"\x02",
            data[1:3],
            b"\0",
            data[4:8],
            b"\0\0",
            data[10:12],
            ciaddr if kind == ACK or proxy else NO_ADDRESS,
            yiaddr,
            template.siaddr,
            data[24:44],
        )
    )
    usual = times is scope.times and named is scope.server and not rapid
    body = template.bodies.get(kind) if usual else None
    if body is None:
        body = _body(kind, named, times[template.asks_times], rapid, template, template.tail)
        if usual:
            template.bodies[kind] = body
    payload = head + body + echo
    if len(payload) > template.limit:
        payload = head + _body(kind, named, times[template.asks_times], rapid, template, template.short) + echo
    if kind == 0 and data[236:240] != MAGIC:
        payload = payload[:236] + _ZEROS
    if len(payload) < SHORTEST_REPLY:
        payload = payload.ljust(SHORTEST_REPLY, b"\0")
    if relayed:
        return payload, _RELAY, giaddr, NOWHERE
    if kind == ACK and ciaddr != NO_ADDRESS and not proxy:
        on_link = scope.contains(int.from_bytes(ciaddr, "big")) and data[1:3] == ETHERNET
        return payload, _RAW if on_link else _UNICAST, ciaddr, data[28:34]
    if data[10] & 0x80 or data[1:3] != ETHERNET or yiaddr == NO_ADDRESS:
        return payload, _BROADCAST, NO_ADDRESS, NOWHERE
    return payload, _RAW, yiaddr, data[28:34]


def _body(kind: int, named: bytes, times: bytes, rapid: bool, template: Template, tail: bytes) -> bytes:
    """What follows the client's hardware address in a reply, but for what is echoed."""
    rapidly = b"\x50\x00" if rapid else b""
    return b"".join((template.names, MAGIC, _TYPE[kind], b"\x36\x04", named, times, rapidly, tail))


def nak(data: bytes, options: dict[int, bytes], scope: Scope, because: str) -> Sent:
    """RFC 2131 table 3: no addresses; server id, message and echoes only; broadcast."""
    relayed = data[24:28] != NO_ADDRESS
    flags = bytes((data[10] | 0x80, data[11])) if relayed else data[10:12]
    named = (override(options) or scope.server) if relayed else scope.server
    head = (b"\x02", data[1:3], b"\0", data[4:8], b"\0\0", flags, bytes(12), data[24:44], bytes(192), MAGIC)
    said = (
        _TYPE[NAK],
        b"\x36\x04",
        named,
        option(56, because.encode("ascii", "replace")[:255]),
        _echo(options),
        b"\xff",
    )
    payload = b"".join((*head, *said)).ljust(SHORTEST_REPLY, b"\0")
    if relayed:
        return payload, _RELAY, data[24:28], NOWHERE
    return payload, _BROADCAST, NO_ADDRESS, NOWHERE


def plain(kind: int, data: bytes, scope: Scope, extra: dict[int, bytes]) -> Sent:
    """An answer that is no lease: to the relay that asked (RFC 4388)."""
    body = _TYPE[kind] + b"\x36\x04" + scope.server + b"".join(option(c, v) for c, v in extra.items())
    head = (b"\x02", data[1:3], b"\0", data[4:8], b"\0\0", data[10:16], bytes(8), data[24:44], bytes(192), MAGIC)
    return b"".join((*head, body, b"\xff")).ljust(SHORTEST_REPLY, b"\0"), _RELAY, data[24:28], NOWHERE


def override(options: dict[int, bytes]) -> bytes | None:
    """Server id a relay wants to be seen as (RFC 5107)."""
    raw = options.get(82)
    if raw is None:
        return None
    named = sub_options(raw).get(11)
    return named if named is not None and len(named) == 4 else None


def with_item(payload: bytes, options: dict[int, bytes]) -> bytes:
    """A boot server says again which menu item the client chose (PXE 2.1 §2.2.6, tag 71)."""
    item = sub_options(options.get(43, b"")).get(71)
    if item is None or len(item) != 4:
        return payload
    told = PXE_DIRECT[:-1] + option(71, item) + b"\xff"
    return payload[:240] + payload[240:].replace(option(43, PXE_DIRECT), option(43, told), 1)


def _echo(options: dict[int, bytes]) -> bytes:
    """Client id (RFC 6842), the subnet the client selected (RFC 3011 §2), last the relay's words (RFC 3046 §2.2).

    Switches put the latter into packets without being a relay (no giaddr): they want it back too.
    """
    return b"".join(option(code, options[code]) for code in (61, 118, 82) if code in options)
