"""DHCP sockets for one interface under an asyncio loop; the rules are in wire/dhcp4/server.py.

    server = DhcpServer(network, answers, on_event, state / "boot" / "prov.leases")
    server.update(records)      # every BootRecord; or change(records, gone) for some
    server.start(loop)
    server.close()

`answers(client, record, network)` is boot.decide with its URLs bound. `on_event`
gets {"kind", "node", "body"} with kinds and bodies of protocol/plane.py.
Before strangers are answered (modes other than known, no proxy), other servers are
asked for; when one answers, only known machines get answers until it is gone.

A batch of datagrams is answered at once: leases first go to the journal, with
one fdatasync, then the replies leave. When the journal cannot be written, the
machines that would have got a lease get no answer, and an event says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from baremetal.model.boot import BootRecord
from baremetal.model.network import Mode, Network
from baremetal.serve.journal import LeaseJournal
from baremetal.serve.rivalwatch import LISTEN_S, Rival, RivalWatch
from baremetal.serve.sockets import hardware_address, raw_sender, udp_socket
from baremetal.wire.dhcp4.frame import Framer
from baremetal.wire.dhcp4.leases import Hold, Lease
from baremetal.wire.dhcp4.packet import ACK, MAGIC
from baremetal.wire.dhcp4.server import Answers, Route, Sent, Server

BATCH = 64  # datagrams answered before the loop gets its turn; also the most that wait for one fdatasync
LARGEST = 1600  # a longer read costs four times as much per packet (asyncio's own reads 256 KiB)
CHECK_S = 5.0  # how often the interface is looked at
ASK_AGAIN_S = 300.0  # how often we look whether a rival is still there
_BROADCAST, _RAW, _RELAY = Route.BROADCAST, Route.RAW, Route.RELAY  # looking up an enum's member is slow

OnEvent = Callable[[dict[str, Any]], None]


class DhcpServer:
    """DHCPv4 on one interface. `network`: the link's own subnet, or several, the link's own first."""

    def __init__(
        self,
        network: Network | Sequence[Network],
        answers: Answers,
        on_event: OnEvent,
        journal_path: Path | None,
        *,
        port: int = 67,
        boot_port: int = 4011,
        client_port: int = 68,
        probe: bool = True,
    ) -> None:
        networks = [network] if isinstance(network, Network) else list(network)
        self.network = networks[0]
        self.rules = Server(networks, answers)
        self._on_event = on_event
        self._journal = LeaseJournal(journal_path) if journal_path is not None and not self.network.proxy else None
        self._port, self._boot_port, self._client_port = port, boot_port, client_port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sock: socket.socket | None = None
        self._boot: socket.socket | None = None
        self._raw: socket.socket | None = None
        self._index = 0
        self._framer = Framer(bytes(6), bytes(4), port, client_port)
        self._check: asyncio.TimerHandle | None = None
        self._ask: asyncio.TimerHandle | None = None
        self._rivals = RivalWatch(self.network.interface, self.network.server, self._rival)
        self._probe = probe
        self._down = ""
        self._steady = 0.0

    # ------------------------------------------------------------ life

    def update(self, records: Iterable[BootRecord]) -> None:
        """All nodes, as they are now."""
        self.rules.update(records)

    def change(self, records: Iterable[BootRecord], gone: Iterable[str] = ()) -> None:
        """Some nodes, as they are now; ids of nodes that are gone."""
        self.rules.change(records, gone)

    def stand(self, silent: str, gives_range: bool, peers: frozenset[str]) -> None:
        """Beside other servers of the site: why nobody is answered, whether the range is ours, who the others are."""
        self.rules.silent = silent
        names = {scope.network.name for scope in self.rules.scopes}
        self.rules.no_range = set() if gives_range else names
        if self._rivals.know(peers) and not self._rivals.heard:
            self.rules.only_known = self.rules.others = ""

    def adopt(self, leases: Iterable[tuple[str, str, float]]) -> None:
        """Leases that another server gave (MAC, address, end in our Unix seconds), before the range is ours."""
        now = self._now()
        for mac, address, expires in leases:
            key, ip = bytes.fromhex(mac.replace(":", "")), int.from_bytes(socket.inet_aton(address), "big")
            for scope in self.rules.scopes:
                if scope.contains(ip) and expires > now and scope.leases.holder(ip, now) is None:
                    scope.leases.restore(key, ip, expires)

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Open sockets and journal; raises MachineError with what to do."""
        self._loop = loop or asyncio.get_running_loop()
        # A clock that jumps must not end leases: wall time is read once, then counted.
        self._steady = time.time() - time.monotonic()
        self._recall()
        self._open()
        self._check = self._loop.call_later(CHECK_S, self._look)
        if self._probe:
            self._ask_rivals()
        self._tell(
            "up", f"DHCP on {self.network.interface}, {self.network.mode} machines" + (", proxy" * self.network.proxy)
        )

    def close(self) -> None:
        for timer in (self._check, self._ask):
            if timer is not None:
                timer.cancel()
        self._check = self._ask = None
        self._shut()
        if self._journal is not None:
            self._journal.close()

    def release(self, address: str) -> bool:
        """An operator takes an address back; the machine that has it learns of it when it renews."""
        ip = int.from_bytes(socket.inet_aton(address), "big")
        given_back = [lease for scope in self.rules.scopes if (lease := scope.leases.evict(ip)) is not None]
        if not given_back:
            return False
        self.rules.bound += [Lease(lease.key, ip, 0.0, Hold.OFFERED) for lease in given_back]
        return self._commit()

    def leases(self) -> list[Lease]:
        """All leases and offers, for `network leases`."""
        return [lease for scope in self.rules.scopes for lease in scope.leases]

    def _now(self) -> float:
        return time.monotonic() + self._steady

    def _recall(self) -> None:
        """Leases of the last run."""
        if self._journal is None:
            return
        for key, ip, expires in self._journal.read():
            for scope in self.rules.scopes:
                if scope.contains(ip):
                    if expires:
                        scope.leases.restore(key, ip, expires)
                    else:
                        scope.leases.release(key, ip)
        try:
            self._journal.compact(self._durable())
        except OSError as exc:
            self._journal.open()
            self._tell("journal", f"cannot be rewritten: {exc}")
        if self._journal.broken:
            self._tell("journal", f"{self._journal.broken} unreadable lines skipped")

    def _durable(self) -> list[Lease]:
        return [x for x in self.leases() if x.hold == 1]

    # ------------------------------------------------------------ sockets

    def _open(self) -> None:
        name = self.network.interface
        self._framer = Framer(hardware_address(name), self.rules.scopes[0].server, self._port, self._client_port)
        self._raw = raw_sender(name)
        self._sock = udp_socket(name, "", self._port, share=True)
        self._boot = udp_socket(name, "", self._boot_port, share=True)
        self._index = socket.if_nametoindex(name)
        assert self._loop is not None
        self._rivals.start(self._loop)
        self._loop.add_reader(self._sock, self._readable)
        self._loop.add_reader(self._boot, self._boot_readable)

    def _shut(self) -> None:
        self._rivals.close()
        for sock in (self._sock, self._boot, self._raw):
            if sock is not None:
                if self._loop is not None and not self._loop.is_closed():
                    self._loop.remove_reader(sock)
                sock.close()
        self._sock = self._boot = self._raw = None

    def _look(self) -> None:
        """An interface that went away and came back has a new index: open again."""
        assert self._loop is not None
        self._check = self._loop.call_later(CHECK_S, self._look)
        with contextlib.suppress(OSError):
            if socket.if_nametoindex(self.network.interface) != self._index or self._sock is None:
                self._shut()
                try:
                    self._open()
                except Exception as exc:  # tried again at the next look
                    self._trouble(str(exc))
                    self._shut()
                else:
                    self._well()
            return
        self._trouble(f"interface {self.network.interface} is gone")

    def _trouble(self, detail: str) -> None:
        if detail != self._down:
            self._down = detail
            self._tell("trouble", detail)

    def _well(self) -> None:
        if self._down:
            self._tell("up", f"works again after: {self._down}")
            self._down = ""

    # ------------------------------------------------------------ other servers

    def _ask_rivals(self) -> None:
        """Strangers wait for the answer; machines we know do not."""
        assert self._loop is not None
        if self.network.mode is not Mode.KNOWN and not self.network.proxy:
            self.rules.only_known = "other DHCP servers are asked for first"
        self._rivals.heard.clear()
        self._rivals.ask()
        self._ask = self._loop.call_later(LISTEN_S, self._asked)

    def _asked(self) -> None:
        assert self._loop is not None
        if self._rivals.unsure:
            self._ask = self._loop.call_later(LISTEN_S, self._asked)
            return
        if not self._rivals.heard:
            self.rules.only_known = self.rules.others = ""
        self._ask = self._loop.call_later(ASK_AGAIN_S, self._ask_rivals)

    def _rival(self, rival: Rival) -> None:
        self.rules.others = rival.server
        what = f"{rival.server} ({rival.mac}) answers DHCP on {self.network.interface} too"
        if self.network.mode is not Mode.KNOWN and not self.network.proxy:
            self.rules.only_known = what
            what += ": unknown machines get no answer from us. Stop it, or set proxy = true for this network"
        self._tell("rival", what)

    # ------------------------------------------------------------ the hot path

    def _readable(self) -> None:
        """Up to BATCH datagrams: read all, sync the journal once, answer all."""
        sock, receive = self._sock, self.rules.receive
        if sock is None:
            return
        now = self._now()
        out: list[Sent] = []
        read = sock.recv
        data = b""
        for _ in range(BATCH):
            try:
                data = read(LARGEST)
                sent = receive(data, now)
            except BlockingIOError:
                break
            except OSError as exc:
                self._trouble(f"receive: {exc}")
                break
            except Exception as exc:  # no datagram ends the service
                what = f"{type(exc).__name__}: {exc}"
                self._tell("trouble", f"a packet from {data[28:34].hex(':')} broke the rules: {what}")
                continue
            if sent is not None:
                out.append(sent)
        if self.rules.bound and not self._commit():
            out = [sent for sent in out if not _gives_lease(sent[0])]
        for sent in out:
            self._send(sent)
        if self.rules.events:
            self._publish()

    def _commit(self) -> bool:
        bound, self.rules.bound = self.rules.bound, []
        if self._journal is None:
            return True
        try:
            self._journal.append(bound)
        except OSError as exc:
            self._trouble(f"lease journal: {exc}; no lease is given until it can be written")
            return False
        if self._down.startswith("lease journal"):
            self._well()
        if self._journal.overgrown(len(self.rules.scopes[0].leases)):
            try:
                self._journal.compact(self._durable())
            except OSError:  # it goes on growing, the leases are safe; not tried again for a while
                self._journal.postpone()
        return True

    def _send(self, sent: Sent) -> None:
        payload, route, address, mac = sent
        try:
            if route is _BROADCAST:
                assert self._raw is not None
                self._raw.send(self._framer.broadcast(payload))
            elif route is _RAW:
                assert self._raw is not None
                self._raw.send(self._framer.frame(mac, address, payload))
            else:
                assert self._sock is not None
                port = self._port if route is _RELAY else self._client_port
                self._sock.sendto(payload, (socket.inet_ntoa(address), port))
        except BlockingIOError:
            pass  # the queue is full: the client asks again
        except OSError as exc:
            self._trouble(f"send on {self.network.interface}: {exc}")
        else:
            if self._down and self._down.startswith("send"):
                self._well()

    def _boot_readable(self) -> None:
        """Port 4011: answered to where it came from."""
        sock = self._boot
        if sock is None:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                data, source = sock.recvfrom(LARGEST)
                try:
                    reply = self.rules.receive_boot(data, self._now())
                    if reply is not None:
                        sock.sendto(reply, source)
                except Exception as exc:
                    self._tell("trouble", f"a packet to port {self._boot_port} failed: {type(exc).__name__}: {exc}")
        self._publish()

    def _publish(self) -> None:
        for event in self.rules.drain():
            self._on_event(event)

    def _tell(self, service: str, detail: str) -> None:
        self._on_event(
            {
                "kind": "serving",
                "node": None,
                "body": {"service": f"dhcp:{self.network.name}:{service}", "detail": detail},
            }
        )


def _gives_lease(payload: bytes) -> bool:
    """An ACK or a BOOTP reply: its lease must be durable before it leaves."""
    return payload[236:240] != MAGIC or payload[240:243] == struct.pack("!BBB", 53, 1, ACK) or payload[240] != 53
