"""The rules of a DHCPv4 server: a datagram and the time in, a reply out. Opens no socket; serve/dhcp.py does.

    sent = server.receive(data, now)   # (payload, Route, address, mac), or None
    server.bound                       # leases to write to the journal before `sent` leaves
    server.events                      # what to tell: dicts as protocol/plane.py names them

A packet becomes no object: options are read into a dict once, and the reply is
a join of slices of the request, the lease, and a Template that was compiled
when this kind of client was first seen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any

from baremetal.model.boot import BootRecord, Client, Decision, Loader
from baremetal.model.network import Network
from baremetal.wire import pxe
from baremetal.wire.dhcp4.leases import Hold, Lease
from baremetal.wire.dhcp4.packet import (
    ACK,
    BOOTREQUEST,
    DECLINE,
    DISCOVER,
    INFORM,
    MAGIC,
    NAK,
    NO_ADDRESS,
    OFFER,
    RELEASE,
    REQUEST,
    SHORTEST_REPLY,
    BadPacket,
    option,
    quad,
    read,
)
from baremetal.wire.dhcp4.templates import Scope, Template, compile_template, describe, lease_times

Answers = Callable[[Client, BootRecord | None, Network], Decision]
MOST_CLASSES = 1024  # the client chooses what these caches are keyed by, so they are bounded
MOST_TEMPLATES = 20_000
SEEN_AGAIN_S = 30.0  # the same answer to the same machine is told again after this
SHORTEST_LEASE_S = 60
BOOTP_LEASE_S = 30 * 86400  # BOOTP knows no lease; RFC 1534 wants for ever, a month can be taken back


class Route(IntEnum):
    """How a reply travels."""

    BROADCAST = 0  # 255.255.255.255, from the interface
    RAW = 1  # an Ethernet frame to the client's hardware address: it has no address to ask ARP for
    UNICAST = 2  # plain UDP to port 68
    RELAY = 3  # plain UDP to the relay's port 67


Sent = tuple[bytes, Route, bytes, bytes]


class Known:
    """A node as this interface sees one of its NICs. `fixed` is its address as int, 0 when it has none."""

    __slots__ = ("fixed", "record")

    def __init__(self, record: BootRecord, fixed: int) -> None:
        self.record = record
        self.fixed = fixed


class Server:
    """All subnets of one interface: the first network is the link's own, the others are reached by relays."""

    def __init__(self, networks: Sequence[Network], answers: Answers) -> None:
        self.scopes = [Scope.of(n) for n in networks]
        self.bound: list[Lease] = []
        self.events: list[dict[str, Any]] = []
        self.counts = dict.fromkeys(("received", "answered", "ignored", "bad", "offers", "acks", "naks"), 0)
        self._answers = answers
        self._local = self.scopes[0]
        self._known: dict[bytes, Known] = {}
        self._by_guid: dict[bytes, BootRecord] = {}
        self._by_circuit: dict[bytes, BootRecord] = {}
        self._classes: dict[tuple[bytes | None, bytes | None, bytes | None, bool], Client] = {}
        self._templates: dict[tuple[object, ...], Template] = {}
        self._relays: dict[bytes, Scope | None] = {}
        self._times: dict[int, tuple[bytes, bytes]] = {}
        self._seen: dict[bytes, tuple[object, float]] = {}

    # ------------------------------------------------------------ what is known

    def update(self, records: Iterable[BootRecord]) -> None:
        """The nodes as they are now: replaces what was known."""
        for known in self._known.values():
            for scope in self.scopes:
                scope.leases.unfix(known.fixed)
        self._known.clear()
        self._by_guid.clear()
        self._by_circuit.clear()
        for record in records:
            self._learn(record)
        self._templates.clear()

    def change(self, records: Iterable[BootRecord], gone: Iterable[str] = ()) -> None:
        """Some nodes changed, some (by id) went away."""
        changed = list(records)
        ids = {r.node_id for r in changed} | set(gone)
        for key in [k for k, known in self._known.items() if known.record.node_id in ids]:
            known = self._known.pop(key)
            for scope in self.scopes:
                scope.leases.unfix(known.fixed)
        for index in (self._by_guid, self._by_circuit):
            for raw in [k for k, r in index.items() if r.node_id in ids]:
                del index[raw]
        for record in changed:
            self._learn(record)
        self._templates.clear()

    def _learn(self, record: BootRecord) -> None:
        fixed = int(ipaddress.IPv4Address(record.address)) if record.address else 0
        keys = [bytes.fromhex(mac.replace(":", "")) for mac in record.macs]
        for key in keys:
            self._known[key] = Known(record, fixed)
        if fixed:
            for scope in self.scopes:
                if scope.contains(fixed):
                    scope.leases.fix(fixed, frozenset(keys))
        guid = pxe.uuid_bytes(record.uuid)
        if guid:
            self._by_guid[guid] = record
        circuit = record.extra.get("circuit")
        if isinstance(circuit, str) and circuit:
            self._by_circuit[circuit.encode()] = record

    # ------------------------------------------------------------ a datagram

    def receive(self, data: bytes, now: float) -> Sent | None:
        """Answer one datagram that came to port 67."""
        self.counts["received"] += 1
        try:
            options = read(data)
            return self._dispatch(data, options, now)
        except BadPacket as exc:
            self.counts["bad"] += 1
            self._tell_once(b"bad", exc.brief, now, what="bad DHCP packet", mac=data[28:34].hex(":"))
            return None

    def _dispatch(self, data: bytes, options: dict[int, bytes], now: float) -> Sent | None:
        if data[0] != BOOTREQUEST:
            return None
        kind = options.get(53)
        if kind is not None and len(kind) != 1:
            raise BadPacket(f"message type of {len(kind)} bytes")
        key = _hardware_key(data)
        scope = self._scope(data, options, now)
        if scope is None:
            self.counts["ignored"] += 1
            return None
        code = kind[0] if kind else 0
        if code in (RELEASE, DECLINE):
            self._give_back(code, data, options, key, scope, now)
            return None
        known = self._known.get(key) or self._recognise(key, options)
        template = self._template(options, key, scope, known)
        seen = self._seen.get(key)
        if seen is None or seen[0] is not template or now - seen[1] > SEEN_AGAIN_S:
            self._tell_seen(key, template, scope, known, options, now)
        if template.silent:
            self.counts["ignored"] += 1
            return None
        if scope.network.proxy:
            return self._proxy(code, data, options, scope, template)
        if code == DISCOVER:
            return self._discover(data, options, key, scope, known, template, now)
        if code == REQUEST:
            return self._request(data, options, key, scope, known, template, now)
        if code == INFORM:
            return self._inform(data, options, scope, template)
        if code == 0:
            return self._bootp(data, options, key, scope, known, template, now)
        return None

    def _discover(
        self,
        data: bytes,
        options: dict[int, bytes],
        key: bytes,
        scope: Scope,
        known: Known | None,
        template: Template,
        now: float,
    ) -> Sent | None:
        wish = options.get(50)
        asked = int.from_bytes(wish, "big") if wish is not None and len(wish) == 4 else 0
        lease = self._lease_for(key, scope, known, asked, now)
        if lease is None:
            self._tell_once(
                key, f"no address is free on {scope.network.name}", now, what="DHCP DISCOVER", mac=key.hex(":")
            )
            return None
        if scope.rapid_commit and 80 in options:
            return self._acknowledge(data, options, key, scope, known, template, lease.ip, now, rapid=True)
        self.counts["offers"] += 1
        return self._reply(
            OFFER, data, options, scope, template, lease.ip.to_bytes(4, "big"), self._times_for(scope, options)
        )

    def _lease_for(self, key: bytes, scope: Scope, known: Known | None, asked: int, now: float) -> Lease | None:
        """The fixed address of a node, unless another NIC of it or an older lease has it; else one of the range."""
        leases = scope.leases
        if known is not None and known.fixed and scope.contains(known.fixed):
            lease = leases.offer(key, now, fixed=known.fixed)
            if lease is not None:
                return lease
            holder = leases.holder(known.fixed, now)
            self._tell_once(
                key,
                f"{known.record.name} should have {quad(known.fixed.to_bytes(4, 'big'))}, but "
                f"{holder.key.hex(':') if holder else 'somebody'} holds it; it gets another address",
                now,
                what="fixed address",
                mac=key.hex(":"),
                node=known.record.node_id,
            )
        return leases.offer(key, now, wish=asked)

    def _request(
        self,
        data: bytes,
        options: dict[int, bytes],
        key: bytes,
        scope: Scope,
        known: Known | None,
        template: Template,
        now: float,
    ) -> Sent | None:
        named, wish, ciaddr = options.get(54), options.get(50), data[12:16]
        if named is not None:
            if len(named) != 4:
                raise BadPacket(f"server id of {len(named)} bytes")
            if named != scope.server and named != _override(options):
                scope.leases.withdraw(key)
                self._tell_once(
                    key,
                    f"it took the offer of server {quad(named)}",
                    now,
                    what="DHCP offer",
                    mac=key.hex(":"),
                    source=quad(named),
                )
                return None
        raw = ciaddr if wish is None else wish
        if len(raw) != 4:
            raise BadPacket(f"requested address of {len(raw)} bytes")
        if raw == NO_ADDRESS:
            raise BadPacket("REQUEST without an address")
        refused = self._refuse(
            int.from_bytes(raw, "big"), key, scope, known, now, selecting=named is not None, reboot=wish is not None
        )
        if refused is None:
            return self._acknowledge(data, options, key, scope, known, template, int.from_bytes(raw, "big"), now)
        if not refused:
            self.counts["ignored"] += 1
            return None
        return self._nak(data, options, key, scope, refused, now)

    def _refuse(
        self, ip: int, key: bytes, scope: Scope, known: Known | None, now: float, *, selecting: bool, reboot: bool
    ) -> str | None:
        """None: grant. "": say nothing. Else why not (RFC 2131 §4.3.2)."""
        if not scope.contains(ip):
            return f"{quad(ip.to_bytes(4, 'big'))} is not on {scope.network.cidr}"
        leases = scope.leases
        mine = leases.of(key)
        if known is not None and known.fixed and known.fixed != ip and leases.may_have(key, known.fixed, now):
            return f"{known.record.name} has the fixed address {quad(known.fixed.to_bytes(4, 'big'))}"
        if leases.may_have(key, ip, now):
            if selecting or (mine is not None and mine.ip == ip) or (known is not None and known.fixed == ip):
                return None
            if not reboot:
                return None if mine is None else f"its lease is for {mine.address}"
            return "" if mine is None else f"its lease is for {mine.address}"
        holder = leases.holder(ip, now)
        if holder is not None:
            return "somebody else has this address"
        return f"{quad(ip.to_bytes(4, 'big'))} is not ours to give" if selecting or mine is not None else ""

    def _acknowledge(
        self,
        data: bytes,
        options: dict[int, bytes],
        key: bytes,
        scope: Scope,
        known: Known | None,
        template: Template,
        ip: int,
        now: float,
        *,
        rapid: bool = False,
    ) -> Sent:
        times = self._times_for(scope, options)
        expires = now + int.from_bytes(times[0][2:6], "big")
        lease = scope.leases.bind(key, ip, expires)
        if known is None or known.fixed != ip:
            self.bound.append(lease)  # a fixed address needs no journal: the store has it
        self.counts["acks"] += 1
        raw = ip.to_bytes(4, "big")
        self.events.append(
            {
                "kind": "lease",
                "node": known.record.node_id if known is not None else None,
                "body": {"mac": key.hex(":"), "address": quad(raw), "network": scope.network.name, "expires": expires},
            }
        )
        return self._reply(ACK, data, options, scope, template, raw, times, b"\x50\x00" if rapid else b"")

    def _inform(self, data: bytes, options: dict[int, bytes], scope: Scope, template: Template) -> Sent | None:
        """Options only, to an address the client already has; no lease, no yiaddr (RFC 2131 §4.3.5)."""
        if data[12:16] == NO_ADDRESS:
            raise BadPacket("INFORM without an address")
        return self._reply(ACK, data, options, scope, template, NO_ADDRESS, _NO_TIMES)

    def _bootp(
        self,
        data: bytes,
        options: dict[int, bytes],
        key: bytes,
        scope: Scope,
        known: Known | None,
        template: Template,
        now: float,
    ) -> Sent | None:
        """RFC 951 and 1534: one request, one reply, no lease time."""
        lease = self._lease_for(key, scope, known, 0, now)
        if lease is None:
            return None
        lease = scope.leases.bind(key, lease.ip, now + BOOTP_LEASE_S)
        self.bound.append(lease)
        return self._reply(0, data, options, scope, template, lease.ip.to_bytes(4, "big"), _NO_TIMES)

    def _give_back(
        self, code: int, data: bytes, options: dict[int, bytes], key: bytes, scope: Scope, now: float
    ) -> None:
        named = options.get(54)
        if named is not None and named != scope.server and named != _override(options):
            return
        raw = data[12:16] if code == RELEASE else options.get(50, b"")
        if len(raw) != 4:
            raise BadPacket("DECLINE without an address")
        ip, leases = int.from_bytes(raw, "big"), scope.leases
        done = leases.release(key, ip) if code == RELEASE else leases.decline(key, ip, now)
        if not done:
            return
        self.bound.append(_given_back(key, ip))
        if code == DECLINE:
            self._tell_once(
                key,
                f"it found {quad(raw)} in use by somebody else; nobody gets it for a while",
                now,
                what="DHCP DECLINE",
                mac=key.hex(":"),
            )

    # ------------------------------------------------------------ boot answers beside a foreign server

    def _proxy(
        self, code: int, data: bytes, options: dict[int, bytes], scope: Scope, template: Template
    ) -> Sent | None:
        """proxyDHCP (PXE 2.1 §2.2): boot data only, no address, to boot clients only."""
        if template.client.loader is Loader.NONE or code not in (DISCOVER, REQUEST, INFORM):
            return None
        if code == REQUEST and options.get(54) != scope.server:
            return None  # that is for the server that gives addresses
        return self._reply(
            OFFER if code == DISCOVER else ACK, data, options, scope, template, NO_ADDRESS, _NO_TIMES, proxy=True
        )

    def receive_boot(self, data: bytes, now: float) -> bytes | None:
        """Port 4011: a client with an address asks the boot server again; the reply goes where it came from."""
        try:
            options = read(data)
            if data[0] != BOOTREQUEST or options.get(53) not in (
                bytes((REQUEST,)),
                bytes((INFORM,)),
                bytes((DISCOVER,)),
            ):
                return None
            key = _hardware_key(data)
            scope = self._local
            known = self._known.get(key) or self._recognise(key, options)
            template = self._template(options, key, scope, known)
            if template.silent or template.client.loader is Loader.NONE:
                return None
            self._tell_seen(key, template, scope, known, options, now)
            sent = self._reply(ACK, data, options, scope, template, NO_ADDRESS, _NO_TIMES, proxy=True)
            return sent[0]
        except BadPacket as exc:
            self.counts["bad"] += 1
            self._tell_once(b"bad", exc.brief, now, what="bad packet on port 4011", mac=data[28:34].hex(":"))
            return None

    # ------------------------------------------------------------ replies

    def _reply(
        self,
        kind: int,
        data: bytes,
        options: dict[int, bytes],
        scope: Scope,
        template: Template,
        yiaddr: bytes,
        times: tuple[bytes, bytes],
        extra: bytes = b"",
        *,
        proxy: bool = False,
    ) -> Sent:
        echo = b""
        if template.echo_uuid and 97 in options:
            echo = option(97, options[97])
        if 61 in options:  # RFC 6842
            echo += option(61, options[61])
        relayed = data[24:28] != NO_ADDRESS
        if relayed and 82 in options:  # RFC 3046 §2.2: last
            echo += option(82, options[82])
        head = b"".join(
            (
                b"\x02",
                data[1:3],
                b"\0",
                data[4:8],
                b"\0\0",
                data[10:12],
                data[12:16] if kind == ACK or proxy else NO_ADDRESS,
                yiaddr,
                template.siaddr,
                data[24:44],
                template.names,
            )
        )
        if kind == 0 and data[236:240] != MAGIC:
            payload = head + bytes(64)
        else:
            named = (_override(options) or scope.server) if relayed else scope.server
            start = _TYPE[kind] + b"\x36\x04" + named + times[template.asks_times] + extra
            payload = b"".join((head, MAGIC, start, template.tail, echo, b"\xff"))
            if len(payload) > template.limit:
                payload = b"".join((head, MAGIC, start, template.short, echo, b"\xff"))
            payload = payload.ljust(SHORTEST_REPLY, b"\0")
        self.counts["answered"] += 1
        if relayed:
            return payload, Route.RELAY, data[24:28], NO_ADDRESS
        if data[12:16] != NO_ADDRESS and kind == ACK and not proxy:
            on_link = scope.contains(int.from_bytes(data[12:16], "big")) and data[1:3] == _ETHERNET
            return payload, Route.RAW if on_link else Route.UNICAST, data[12:16], data[28:34]
        if data[10] & 0x80 or data[1:3] != _ETHERNET or yiaddr == NO_ADDRESS:
            return payload, Route.BROADCAST, NO_ADDRESS, NO_ADDRESS
        return payload, Route.RAW, yiaddr, data[28:34]

    def _nak(self, data: bytes, options: dict[int, bytes], key: bytes, scope: Scope, because: str, now: float) -> Sent:
        """RFC 2131 table 3: no addresses, no options but server id, message, client id; broadcast."""
        self.counts["naks"] += 1
        self._tell_once(key, because, now, what="DHCP NAK", mac=key.hex(":"))
        relayed = data[24:28] != NO_ADDRESS
        flags = bytes((data[10] | 0x80, data[11])) if relayed else data[10:12]
        named = (_override(options) or scope.server) if relayed else scope.server
        body = _TYPE[NAK] + b"\x36\x04" + named + option(56, because.encode("ascii", "replace")[:255])
        if 61 in options:
            body += option(61, options[61])
        if relayed and 82 in options:
            body += option(82, options[82])
        head = b"".join(
            (b"\x02", data[1:3], b"\0", data[4:8], b"\0\0", flags, bytes(12), data[24:44], bytes(192), MAGIC)
        )
        payload = (head + body + b"\xff").ljust(SHORTEST_REPLY, b"\0")
        if relayed:
            return payload, Route.RELAY, data[24:28], NO_ADDRESS
        return payload, Route.BROADCAST, NO_ADDRESS, NO_ADDRESS

    # ------------------------------------------------------------ look-ups

    def _scope(self, data: bytes, options: dict[int, bytes], now: float) -> Scope | None:
        """The subnet the client is on: the link's own, or the relay's (RFC 2131 §4.3.1, RFC 3527, RFC 3011)."""
        giaddr = data[24:28]
        if giaddr == NO_ADDRESS:
            return self._local
        chosen = sub_options(options.get(82, b"")).get(5) or options.get(118) or giaddr
        if chosen not in self._relays:
            if len(self._relays) > MOST_CLASSES:
                self._relays.clear()
            ip = int.from_bytes(chosen, "big") if len(chosen) == 4 else 0
            self._relays[chosen] = next((s for s in self.scopes if s.contains(ip) and chosen != s.server), None)
        scope = self._relays[chosen]
        if giaddr == b"\xff\xff\xff\xff" or any(giaddr == s.server for s in self.scopes):
            scope = None
        if scope is None:
            why = f"no network of ours has link {quad(chosen[:4].ljust(4, bytes(1)))}"
            self._tell_once(b"relay", why, now, what="DHCP relay", mac="", source=quad(giaddr))
        return scope

    def _recognise(self, key: bytes, options: dict[int, bytes]) -> Known | None:
        """A machine whose MAC is unknown, by its UUID (another NIC of a node), or by the switch port it hangs on."""
        record = self._by_guid.get(options.get(97, b""))
        if record is None and self._by_circuit and 82 in options:
            record = self._by_circuit.get(sub_options(options[82]).get(1, b""))
            if record is not None:  # a port names the machine, so it may have the machine's address
                known = self._known[key] = Known(
                    record, int(ipaddress.IPv4Address(record.address)) if record.address else 0
                )
                for scope in self.scopes:
                    if known.fixed and scope.contains(known.fixed):
                        scope.leases.fix(known.fixed, frozenset((key,)))
                return known
        if record is None:
            return None
        known = self._known[key] = Known(record, 0)
        return known

    def _template(self, options: dict[int, bytes], key: bytes, scope: Scope, known: Known | None) -> Template:
        shown = (options.get(93), options.get(60), options.get(77), 175 in options)
        kind = self._classes.get(shown)
        if kind is None:
            kind = self._classify(shown, options)
        wanted, size = options.get(55), options.get(57)
        template = self._templates.get((kind, known, scope, wanted, size))
        if template is None and known is None:
            template = self._templates.get((kind, key, scope, wanted, size))
        return template or self._compile(kind, options, key, scope, known)

    def _classify(
        self, shown: tuple[bytes | None, bytes | None, bytes | None, bool], options: dict[int, bytes]
    ) -> Client:
        if len(self._classes) >= MOST_CLASSES:
            self._classes.clear()
        arch, loader = pxe.classify(options)
        kind = self._classes[shown] = Client(mac="", arch=arch, loader=loader)
        return kind

    def _compile(
        self, kind: Client, options: dict[int, bytes], key: bytes, scope: Scope, known: Known | None
    ) -> Template:
        if len(self._templates) >= MOST_TEMPLATES:
            self._templates.clear()
        record = known.record if known is not None else None
        mac = key.hex(":")
        client = Client(mac=mac, arch=kind.arch, loader=kind.loader, uuid=pxe.uuid_text(options.get(97, b"")))
        decision = self._answers(client, record, scope.network)
        template = compile_template(decision, client, scope, record, options.get(55), options.get(57))
        # Unknown machines of one kind share an answer, unless it names the machine (an iPXE script).
        shared: object = known
        if known is None and mac.replace(":", "-") in repr(decision):
            shared = key
        self._templates[(kind, shared, scope, options.get(55), options.get(57))] = template
        return template

    def _times_for(self, scope: Scope, options: dict[int, bytes]) -> tuple[bytes, bytes]:
        """Lease time: the network's, or the shorter one that the client wishes (RFC 2132 §9.2)."""
        seconds = scope.network.lease_s
        wish = options.get(51)
        if wish is not None and len(wish) == 4:
            seconds = max(SHORTEST_LEASE_S, min(seconds, int.from_bytes(wish, "big")))
        times = self._times.get(seconds)
        if times is None:
            if len(self._times) >= MOST_CLASSES:
                self._times.clear()
            times = self._times[seconds] = lease_times(seconds)
        return times

    # ------------------------------------------------------------ what is told

    def _tell_seen(
        self, key: bytes, template: Template, scope: Scope, known: Known | None, options: dict[int, bytes], now: float
    ) -> None:
        if len(self._seen) > 4 * MOST_TEMPLATES:
            self._seen.clear()
        self._seen[key] = (template, now)
        body: dict[str, Any] = {
            "mac": key.hex(":"),
            "uuid": pxe.uuid_text(options.get(97, b"")),
            "arch": str(template.client.arch),
            "loader": str(template.client.loader),
            "network": scope.network.name,
        }
        if known is None and template.client.loader is not Loader.NONE:
            self.events.append({"kind": "unknown-seen", "node": None, "body": dict(body)})
        body["decision"] = describe(template.decision)
        body["because"] = template.decision.because
        self.events.append({"kind": "boot-seen", "node": known.record.node_id if known else None, "body": body})

    def _tell_once(
        self, key: bytes, why: str, now: float, *, what: str, mac: str, node: str | None = None, source: str = ""
    ) -> None:
        """A refusal with its reason, at most once in SEEN_AGAIN_S for one machine and reason."""
        mark = key + why.encode()[:64]
        seen = self._seen.get(mark)
        if seen is not None and now - seen[1] <= SEEN_AGAIN_S:
            return
        if len(self._seen) > 4 * MOST_TEMPLATES:
            self._seen.clear()
        self._seen[mark] = (None, now)
        self.events.append(
            {"kind": "refused", "node": node, "body": {"what": what, "why": why, "source": source or mac}}
        )


_ETHERNET = b"\x01\x06"
_NO_TIMES = (b"", b"")
_TYPE = [b"" if t == 0 else bytes((53, 1, t)) for t in range(14)]


def _hardware_key(data: bytes) -> bytes:
    """What a lease belongs to: the MAC; for other hardware its type byte and address."""
    if data[1] == 1 and data[2] == 6:
        key = data[28:34]
        if key[0] & 1 or key == b"\0\0\0\0\0\0":
            raise BadPacket(f"{key.hex(':')} cannot be the address of one machine")
        return key
    if not 0 < data[2] <= 16:
        raise BadPacket(f"hardware address of {data[2]} bytes")
    return data[1:2] + data[28 : 28 + data[2]]


def sub_options(raw: bytes) -> dict[int, bytes]:
    """Sub-options of option 82; a list that overruns ends there."""
    out: dict[int, bytes] = {}
    at = 0
    while at + 2 <= len(raw) and at + 2 + raw[at + 1] <= len(raw):
        out[raw[at]] = raw[at + 2 : at + 2 + raw[at + 1]]
        at += 2 + raw[at + 1]
    return out


def _override(options: dict[int, bytes]) -> bytes | None:
    """Server id a relay wants to be seen as (RFC 5107)."""
    raw = options.get(82)
    if raw is None:
        return None
    named = sub_options(raw).get(11)
    return named if named is not None and len(named) == 4 else None


def _given_back(key: bytes, ip: int) -> Lease:
    return Lease(key, ip, 0.0, Hold.OFFERED)
