"""The rules of a DHCPv4 server: a datagram and the time in, a reply out. Opens no socket; serve/dhcp.py does.

    sent = server.receive(data, now)   # (payload, Route, address, mac), or None
    server.bound                       # leases to write to the journal before `sent` leaves
    server.events                      # what to tell: dicts as protocol/plane.py names them

A packet becomes no object: options are read into a dict once, and the reply is
a join of slices of the request, the lease, and a Template that was compiled
when this kind of client was first seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from baremetal.model.boot import BootRecord, Client, Decision
from baremetal.model.network import Network
from baremetal.wire import pxe
from baremetal.wire.dhcp4.directory import Directory, Known
from baremetal.wire.dhcp4.layout import Layouts
from baremetal.wire.dhcp4.leases import Hold, Lease
from baremetal.wire.dhcp4.packet import (
    ACK,
    BOOTREQUEST,
    DECLINE,
    DISCOVER,
    INFORM,
    LEASEACTIVE,
    LEASEQUERY,
    LEASEUNASSIGNED,
    LEASEUNKNOWN,
    NO_ADDRESS,
    OFFER,
    RELEASE,
    REQUEST,
    BadPacket,
    hardware_key,
    quad,
    read,
    sub_options,
)
from baremetal.wire.dhcp4.replies import NO_TIMES, Route, Sent, nak, override, plain, reply, with_item
from baremetal.wire.dhcp4.telling import Teller
from baremetal.wire.dhcp4.templates import Scope, Template, compile_template, lease_times

Answers = Callable[[Client, BootRecord | None, Network], Decision]
Options = dict[int, bytes]
MOST_TEMPLATES = 20_000  # the client chooses what the caches are keyed by, so they are bounded
SHORTEST_LEASE_S = 60
UNHEARD = 3  # offers that nobody took, and we say so
BOOTP_LEASE_S = 30 * 86400  # BOOTP knows no lease; RFC 1534 wants for ever, a month can be taken back

__all__ = ["Answers", "Route", "Sent", "Server"]


class Server:
    """All subnets of one interface: the first network is the link's own, the others are reached by relays."""

    def __init__(self, networks: Sequence[Network], answers: Answers) -> None:
        self.scopes = [Scope.of(n) for n in networks]
        self.directory = Directory(self.scopes)
        self.bound: list[Lease] = []
        self._teller = Teller()
        self.only_known = ""  # why strangers get no answer for now
        self.others = ""  # another DHCP server that was heard on the link
        self.silent = ""  # why nobody gets an answer for now
        self.no_range: set[str] = set()  # networks whose range another server gives out
        self._answers = answers
        self._local = self.scopes[0]
        self._templates: dict[tuple[object, ...], Template] = {}
        self._relays: dict[bytes, Scope | None] = {}
        self._times: dict[int, tuple[bytes, bytes]] = {}
        self._read = Layouts().read

    @property
    def events(self) -> list[dict[str, Any]]:
        """What to tell; `drain` empties it."""
        return self._teller.events

    def drain(self) -> list[dict[str, Any]]:
        """What to tell since the last call."""
        told, self._teller.events = self._teller.events, []
        return told

    def update(self, records: Iterable[BootRecord]) -> None:
        """The nodes as they are now: replaces what was known."""
        self.directory.update(records)
        self._templates.clear()

    def change(self, records: Iterable[BootRecord], gone: Iterable[str] = ()) -> None:
        """Some nodes changed, some (by id) went away."""
        # Templates are keyed by what was known: those of a node's former self are never found again.
        self.directory.change(records, gone)

    # ------------------------------------------------------------ a datagram

    def receive(self, data: bytes, now: float) -> Sent | None:
        """Answer one datagram that came to port 67."""
        try:
            return self._dispatch(data, self._read(data), now)
        except BadPacket as exc:
            self._teller.refused(b"bad", "DHCP packet", exc.brief, data[28:34].hex(":"), now)
            return None

    def _dispatch(self, data: bytes, options: Options, now: float) -> Sent | None:
        if data[0] != BOOTREQUEST or self.silent:
            return None
        kind = options.get(53)
        if kind is None:
            code = 0
        elif len(kind) == 1:
            code = kind[0]
        else:
            raise BadPacket(f"message type of {len(kind)} bytes")
        direct = data[24:28] == NO_ADDRESS and 118 not in options
        scope = self._local if direct else self._elsewhere(data, options, now)
        if scope is None:
            return None
        if code == LEASEQUERY:
            return self._leasequery(data, options, scope, now)
        key = hardware_key(data, options)
        if code in _GIVING_BACK:
            self._give_back(code, data, options, key, scope, now)
            return None
        known = self.directory.by_key.get(key) or self.directory.recognise(key, options)
        template = self._template(options, key, scope, known)
        if self.only_known and known is None and not template.silent:
            self._teller.remark(key, template, "ignore", self.only_known, None, now)
            return None
        if self.no_range and scope.network.name in self.no_range and not _fixed(known, scope):
            return None  # its authority answers
        self._teller.saw(key, template, known, options, now)
        if template.silent:
            return None
        if scope.network.proxy:
            return self._proxy(code, data, options, scope, template)
        if code == DISCOVER:
            return self._discover(data, options, key, scope, known, template, now)
        if code == REQUEST:
            return self._request(data, options, key, scope, known, template, now)
        if code == INFORM:
            return self._inform(data, options, scope, template)
        return self._bootp(data, options, key, scope, known, template, now) if code == 0 else None

    def _discover(
        self,
        data: bytes,
        options: Options,
        key: bytes,
        scope: Scope,
        known: Known | None,
        template: Template,
        now: float,
    ) -> Sent | None:
        wish = options.get(50)
        asked = int.from_bytes(wish, "big") if wish is not None and len(wish) == 4 else 0
        lease = self._lease_for(key, scope, known, template, asked, now)
        if lease is None:
            self._teller.remark(key, template, "no-address", f"no address is free on {scope.network.name}", known, now)
            return None
        if lease.offers >= UNHEARD:
            self._unheard(key, template, lease.offers, known, now)
        if scope.rapid_commit and 80 in options:
            return self._acknowledge(data, options, key, scope, known, template, lease.ip, now, rapid=True)
        times = scope.times if 51 not in options else self._times_for(scope, options)
        return reply(OFFER, data, options, scope, template, lease.ip.to_bytes(4, "big"), times)

    def _unheard(self, key: bytes, template: Template, offers: int, known: Known | None, now: float) -> None:
        """Why a machine asks again and again is told while it happens, not when its operator has given up."""
        if self.others:
            why = f"the client took another server's offer, seen from {self.others}"
        else:
            why = "it does not hear the answer (DHCP snooping on the switch, another VLAN on the way back)"
        self._teller.remark(key, template, "no-request", f"offer sent {offers} times, no request: {why}", known, now)

    def _lease_for(
        self, key: bytes, scope: Scope, known: Known | None, template: Template, asked: int, now: float
    ) -> Lease | None:
        """The fixed address of a node, unless an older lease or another NIC of it has that; else one of the range."""
        leases = scope.leases
        if known is not None and known.fixed and scope.contains(known.fixed):
            lease = leases.offer(key, now, fixed=known.fixed)
            if lease is not None:
                return lease
            holder = leases.holder(known.fixed, now)
            whose = holder.key.hex(":") if holder else "another machine"
            why = f"{known.record.name} should have {quad(known.fixed.to_bytes(4, 'big'))}, but {whose} holds it"
            self._teller.remark(key, template, "address-taken", f"{why}: it gets another", known, now)
        return leases.offer(key, now, wish=asked)

    def _request(
        self,
        data: bytes,
        options: Options,
        key: bytes,
        scope: Scope,
        known: Known | None,
        template: Template,
        now: float,
    ) -> Sent | None:
        named, raw = options.get(54), options.get(50)
        if named is not None and named != scope.server and named != override(options):
            if len(named) != 4:
                raise BadPacket(f"server id of {len(named)} bytes")
            scope.leases.withdraw(key)
            self._teller.remark(key, template, "other-server", f"it took the offer of server {quad(named)}", known, now)
            return None
        reboot = raw is not None
        if raw is None:
            raw = data[12:16]
        if len(raw) != 4 or raw == NO_ADDRESS:
            raise BadPacket(f"REQUEST for {quad(raw) if len(raw) == 4 else f'an address of {len(raw)} bytes'}")
        ip = int.from_bytes(raw, "big")
        why = self._objection(ip, key, scope, known, now, selecting=named is not None, reboot=reboot)
        if why is None:
            return self._acknowledge(data, options, key, scope, known, template, ip, now)
        if not why:
            return None
        self._teller.remark(key, template, "nak", why, known, now)
        return nak(data, options, scope, why)

    def _objection(
        self, ip: int, key: bytes, scope: Scope, known: Known | None, now: float, *, selecting: bool, reboot: bool
    ) -> str | None:
        """None: grant. "": say nothing. Else why not (RFC 2131 §4.3.2)."""
        leases = scope.leases
        mine = leases.by_key.get(key)
        if selecting and known is None and mine is not None and mine.ip == ip and mine.expires > now:
            return None  # the way nearly every request takes
        if not scope.contains(ip):
            return f"{quad(ip.to_bytes(4, 'big'))} is not on {scope.network.cidr}"
        if known is not None and known.fixed and known.fixed != ip and leases.may_have(key, known.fixed, now):
            return f"{known.record.name} has the fixed address {quad(known.fixed.to_bytes(4, 'big'))}"
        if leases.may_have(key, ip, now):
            if selecting or (mine is not None and mine.ip == ip) or (known is not None and known.fixed == ip):
                return None
            if mine is not None:
                return f"its lease is for {mine.address}"
            # Renewing what we forgot is harmless, the address is free. INIT-REBOOT without a record: MUST be silent.
            return "" if reboot else None
        if leases.holder(ip, now) is not None:
            return "somebody else has this address"
        return f"{quad(ip.to_bytes(4, 'big'))} is not ours to give" if selecting or mine is not None else ""

    def _acknowledge(
        self,
        data: bytes,
        options: Options,
        key: bytes,
        scope: Scope,
        known: Known | None,
        template: Template,
        ip: int,
        now: float,
        *,
        rapid: bool = False,
    ) -> Sent:
        times = scope.times if 51 not in options else self._times_for(scope, options)
        expires = now + int.from_bytes(times[0][2:6], "big")
        lease = scope.leases.bind(key, ip, expires)
        if known is None or known.fixed != ip:
            self.bound.append(lease)  # a fixed address needs no journal: the store has it
        raw = ip.to_bytes(4, "big")
        body = {"mac": key.hex(":"), "address": quad(raw), "network": scope.network.name, "expires": expires}
        self._teller.events.append({"kind": "lease", "node": known.node if known else None, "body": body})
        return reply(ACK, data, options, scope, template, raw, times, rapid=rapid)

    def _inform(self, data: bytes, options: Options, scope: Scope, template: Template) -> Sent | None:
        """Options only, to an address the client already has; no lease, no yiaddr (RFC 2131 §4.3.5)."""
        if data[12:16] == NO_ADDRESS:
            raise BadPacket("INFORM without an address")
        return reply(ACK, data, options, scope, template, NO_ADDRESS, NO_TIMES)

    def _bootp(
        self,
        data: bytes,
        options: Options,
        key: bytes,
        scope: Scope,
        known: Known | None,
        template: Template,
        now: float,
    ) -> Sent | None:
        """RFC 951 and 1534: one request, one reply, no lease time."""
        lease = self._lease_for(key, scope, known, template, 0, now)
        if lease is None:
            return None
        self.bound.append(scope.leases.bind(key, lease.ip, now + BOOTP_LEASE_S))
        return reply(0, data, options, scope, template, lease.ip.to_bytes(4, "big"), NO_TIMES)

    def _give_back(self, code: int, data: bytes, options: Options, key: bytes, scope: Scope, now: float) -> None:
        named = options.get(54)
        if named is not None and named != scope.server and named != override(options):
            return
        raw = data[12:16] if code == RELEASE else options.get(50, b"")
        if len(raw) != 4:
            raise BadPacket("DECLINE without an address")
        ip, leases = int.from_bytes(raw, "big"), scope.leases
        if not (leases.release(key, ip) if code == RELEASE else leases.decline(key, ip, now)):
            return
        self.bound.append(Lease(key, ip, 0.0, Hold.OFFERED))
        if code == DECLINE:
            why = f"{quad(raw)} is in use by somebody else: nobody gets it for a while"
            self._teller.refused(key, "DHCP DECLINE", why, key.hex(":"), now)

    def _leasequery(self, data: bytes, options: Options, scope: Scope, now: float) -> Sent | None:
        """RFC 4388: a relay asks who has an address, or which address a machine has. Only relays are told."""
        if data[24:28] == NO_ADDRESS:
            return None
        ip = int.from_bytes(data[12:16], "big")
        lease = scope.leases.holder(ip, now) if ip else scope.leases.of(hardware_key(data, options))
        if lease is None or lease.hold is not Hold.BOUND:
            inside = ip and scope.leases.first <= ip <= scope.leases.last
            return plain(LEASEUNASSIGNED if inside else LEASEUNKNOWN, data, scope, {})
        asked = (
            data[:1]
            + b"\x01\x06"
            + data[3:12]
            + lease.ip.to_bytes(4, "big")
            + data[16:28]
            + lease.key.ljust(16, b"\0")[:16]
            + data[44:]
        )
        left = max(1, int(lease.expires - now))
        return plain(LEASEACTIVE, asked, scope, {51: left.to_bytes(4, "big")})

    # ------------------------------------------------------------ beside a foreign server

    def _proxy(self, code: int, data: bytes, options: Options, scope: Scope, template: Template) -> Sent | None:
        """proxyDHCP (PXE 2.1 §2.2): boot data only, no address, to boot clients only."""
        if not template.boots or code not in (DISCOVER, REQUEST, INFORM):
            return None
        if code == REQUEST and options.get(54) != scope.server:
            return None  # that is for the server that gives addresses
        return reply(
            OFFER if code == DISCOVER else ACK, data, options, scope, template, NO_ADDRESS, NO_TIMES, proxy=True
        )

    def receive_boot(self, data: bytes, now: float) -> bytes | None:
        """Port 4011: a client that has an address asks the boot server; the reply goes where it came from."""
        try:
            options = read(data)
            if self.silent or data[0] != BOOTREQUEST or options.get(53) not in _BOOT_TYPES:
                return None
            key, scope = hardware_key(data, options), self._local
            known = self.directory.by_key.get(key) or self.directory.recognise(key, options)
            template = self._template(options, key, scope, known)
            if template.silent or not template.boots:
                return None
            self._teller.saw(key, template, known, options, now)
            return with_item(reply(ACK, data, options, scope, template, NO_ADDRESS, NO_TIMES, proxy=True)[0], options)
        except BadPacket as exc:
            self._teller.refused(b"bad", "packet to port 4011", exc.brief, data[28:34].hex(":"), now)
            return None

    # ------------------------------------------------------------ look-ups

    def _elsewhere(self, data: bytes, options: Options, now: float) -> Scope | None:
        """Not simply the link's own subnet: the link the relay selects (RFC 3527), the one the client does (RFC 3011),
        or giaddr's."""
        giaddr = data[24:28]
        relayed = giaddr != NO_ADDRESS
        selected = sub_options(options[82]).get(5) if relayed and 82 in options else None
        chosen = selected or options.get(118) or giaddr
        if chosen not in self._relays:
            if len(self._relays) > MOST_TEMPLATES:
                self._relays.clear()
            ip = int.from_bytes(chosen, "big") if len(chosen) == 4 else 0
            self._relays[chosen] = next((s for s in self.scopes if s.contains(ip)), None)
        scope = self._relays[chosen]
        if giaddr == b"\xff\xff\xff\xff" or (relayed and any(giaddr == s.server for s in self.scopes)):
            scope = None
        if scope is None:
            why = f"no network of ours has link {quad(chosen[:4].ljust(4, bytes(1)))}"
            source = quad(giaddr) if relayed else data[28:34].hex(":")
            self._teller.refused(b"relay", "DHCP relay" if relayed else "DHCP subnet selection", why, source, now)
        return scope

    def _template(self, options: Options, key: bytes, scope: Scope, known: Known | None) -> Template:
        get = options.get
        shown = (known, scope, get(93), get(60), get(77), 175 in options, get(55), get(57))
        template = self._templates.get(shown)
        if template is None and known is None:
            template = self._templates.get((key, *shown))
        return template if template is not None else self._compile(shown, options, key, scope, known)

    def _compile(
        self, shown: tuple[object, ...], options: Options, key: bytes, scope: Scope, known: Known | None
    ) -> Template:
        if len(self._templates) >= MOST_TEMPLATES:
            self._templates.clear()
        record = known.record if known is not None else None
        client = pxe.client(options, key.hex(":"))
        decision = self._answers(client, record, scope.network)
        template = compile_template(decision, client, scope, record, options.get(55), options.get(57))
        # Unknown machines of one kind share an answer, unless it names the machine (an iPXE script).
        if known is None and client.mac.replace(":", "-") in repr(decision):
            shown = (key, *shown)
        self._templates[shown] = template
        return template

    def _times_for(self, scope: Scope, options: Options) -> tuple[bytes, bytes]:
        """Lease time: the network's, or the shorter one that the client wishes (RFC 2132 §9.2)."""
        wish = options[51]
        if len(wish) != 4:
            return scope.times
        seconds = max(SHORTEST_LEASE_S, min(scope.network.lease_s, int.from_bytes(wish, "big")))
        times = self._times.get(seconds)
        if times is None:
            if len(self._times) >= MOST_TEMPLATES:
                self._times.clear()
            times = self._times[seconds] = lease_times(seconds)
        return times


_GIVING_BACK = frozenset((RELEASE, DECLINE))
_BOOT_TYPES = (bytes((DISCOVER,)), bytes((REQUEST,)), bytes((INFORM,)))


def _fixed(known: Known | None, scope: Scope) -> bool:
    """Is this machine's address a function of the records, the same on every server?"""
    return known is not None and bool(known.fixed) and scope.contains(known.fixed)
