"""Finds BMCs without credentials: RMCP on UDP 623, then the Redfish root.

Two passes over all addresses by one socket, at a limited rate; the second one
asks only the silent, with an ASF ping beside the IPMI question, because some
BMCs answer only one of the two. Nothing is ever logged in to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from baremetal.bmc import guid, presession
from baremetal.bmc.faults import BmcError
from baremetal.bmc.url import BmcUrl
from baremetal.wire.ipmi import rmcp

PORT = 623
# Datagrams a second: a /23 takes half a second, a /16 about 16 s a pass.
RATE = 4000
PASS_WAIT_S = 1.0
# Redfish roots are asked everywhere when so few addresses are named, else only where RMCP answered.
REDFISH_EVERYWHERE = 1024
REDFISH_AT_ONCE = 128
REDFISH_WAIT_S = 2.0


@dataclass
class Found:
    """What one address answered. `same_as` names an address with the same UUID seen before."""

    host: str
    ipmi: dict[str, Any] = field(default_factory=dict)
    redfish: dict[str, Any] = field(default_factory=dict)
    uuid: str | None = None
    same_as: str | None = None

    def to_json(self) -> dict[str, Any]:
        doc = {
            "host": self.host,
            "ipmi": self.ipmi,
            "redfish": self.redfish,
            "uuid": self.uuid,
            "same_as": self.same_as,
        }
        doc = {key: value for key, value in doc.items() if value}
        if len(doc) == 1:
            doc["error"] = {
                "code": "bmc-unreachable",
                "brief": f"{self.host}: neither RMCP nor Redfish answers",
                "cause": "silent",
            }
        return doc


class _Listener(asyncio.DatagramProtocol):
    """Collects answers by address; each BMC is asked for its GUID when it first answers."""

    def __init__(self, found: dict[str, Found]) -> None:
        self.found = found
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[Any, ...]) -> None:
        one = self.found.get(str(address[0]))
        if one is None:  # not one of ours: a stranger's datagram
            return
        if len(data) >= 12 and data[3] & 0x1F == rmcp.CLASS_ASF and data[8] == 0x40:
            one.ipmi.setdefault("ping", True)
        elif (got := presession.answer(data, 0x38)) and got.code == 0 and (able := presession.capabilities(got.data)):
            if "version" not in one.ipmi:
                self.transport.sendto(presession.request(0x37, b""), address)
            one.ipmi |= _words(able)
        elif (got := presession.answer(data, 0x37)) and got.code == 0 and len(got.data) >= 16:
            one.uuid = one.uuid or guid.smbios_text(got.data[:16])

    def error_received(self, exc: Exception) -> None:
        return


def _words(able: presession.Capabilities) -> dict[str, Any]:
    doc: dict[str, Any] = {"version": "2.0" if able.ipmi20 else "1.5"}
    doc |= {name: True for name in ("anonymous", "null_users", "kg") if getattr(able, name)}
    return doc


async def scan(
    hosts: Sequence[str], *, port: int = PORT, redfish_port: int = 443, rate: int = RATE, redfish: bool = True
) -> AsyncIterator[Found]:
    """Asks all addresses; yields those that answered as soon as they are known, then the silent ones."""
    found = {host: Found(host) for host in await _addresses(hosts)}
    await _two_passes(found, port, rate)
    everywhere = len(found) <= REDFISH_EVERYWHERE
    asked = [one for one in found.values() if redfish and (everywhere or one.ipmi)]
    limit = asyncio.Semaphore(REDFISH_AT_ONCE)
    first: dict[str, str] = {}
    tasks = [asyncio.create_task(_redfish(one, redfish_port, limit)) for one in asked]
    done = set[str]()
    for finished in asyncio.as_completed(tasks):
        one = await finished
        if one.ipmi or one.redfish:
            done.add(one.host)
            yield _twin(one, first)
    for one in found.values():
        if one.host not in done:
            yield _twin(one, first)


def _twin(one: Found, first: dict[str, str]) -> Found:
    if one.uuid and (other := first.setdefault(one.uuid, one.host)) != one.host:
        one.same_as = other
    return one


async def _addresses(hosts: Sequence[str]) -> list[str]:
    """Addresses as they are; names resolved. A name that does not resolve stays and will be silent."""
    loop = asyncio.get_running_loop()
    found: dict[str, None] = {}
    for host in hosts:
        try:
            found[str(ipaddress.ip_address(host))] = None
        except ValueError:
            try:
                found[str((await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM))[0][4][0])] = None
            except OSError:
                found[host] = None
    return list(found)


async def _two_passes(found: dict[str, Found], port: int, rate: int) -> None:
    loop = asyncio.get_running_loop()
    families = {socket.AF_INET6 if ":" in host else socket.AF_INET for host in found}
    ends = {}
    for family in families:
        end = socket.socket(family, socket.SOCK_DGRAM)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        end.setblocking(False)
        end.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))  # noqa: S104 - a client's port
        ends[family], _ = await loop.create_datagram_endpoint(lambda: _Listener(found), sock=end)
    try:
        question = presession.auth_request()
        for datagrams in ([question], [question, rmcp.ping(random.randrange(1, 255))]):
            silent = [host for host, one in found.items() if "version" not in one.ipmi]
            await _send(ends, silent, datagrams, port, rate)
            if silent:
                await asyncio.sleep(PASS_WAIT_S)
    finally:
        for transport in ends.values():
            transport.close()


async def _send(ends: dict[Any, Any], hosts: list[str], datagrams: list[bytes], port: int, rate: int) -> None:
    began = time.monotonic()
    for number, host in enumerate(hosts, 1):
        transport = ends[socket.AF_INET6 if ":" in host else socket.AF_INET]
        for datagram in datagrams:
            with contextlib.suppress(OSError, ValueError):
                transport.sendto(datagram, (host, port))
        if number % 64 == 0:
            await asyncio.sleep(max(0.0, began + number * len(datagrams) / rate - time.monotonic()))


async def _redfish(one: Found, port: int, limit: asyncio.Semaphore) -> Found:
    """The service root, unauthenticated. A TCP connect decides first: TLS to 500 dead hosts would cost more."""
    async with limit:
        try:
            async with asyncio.timeout(REDFISH_WAIT_S):
                _, writer = await asyncio.open_connection(one.host, port)
                writer.close()
        except (OSError, TimeoutError):
            return one
        from baremetal.bmc.redfishhttp import RedfishHttp

        host = f"[{one.host}]" if ":" in one.host else one.host
        http = RedfishHttp(BmcUrl.parse(f"redfish+https://{host}:{port}?timeout_s=6"), "")
        try:
            root = await http.root()
        except BmcError as exc:
            one.redfish = {"error": exc.brief} if exc.cause not in ("no-redfish", "silent", "no-route") else {}
            return one
        finally:
            await http.close()
        one.redfish = {
            "version": root.get("RedfishVersion"),
            "product": root.get("Product"),
            "vendor": root.get("Vendor"),
        }
        one.redfish = {key: value for key, value in one.redfish.items() if value} | {"tls_sha256": http.pin.sha256}
        one.uuid = one.uuid or guid.normal_uuid(root.get("UUID"))
        return one


SSDP = ("239.255.255.250", 1900)
_SEARCH = (
    'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\n'
    "ST: urn:dmtf-org:service:redfish-rest:1\r\n\r\n"
)


async def ssdp(address: str, *, wait_s: float = 3.0, target: tuple[str, int] = SSDP) -> list[str]:
    """Addresses of Redfish services that answer a multicast search (DSP0266 §11.2), asked from our `address`."""
    loop = asyncio.get_running_loop()
    found: dict[str, None] = {}

    class Answers(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, peer: tuple[Any, ...]) -> None:
            if data.startswith(b"HTTP/1.1 200") and b"redfish-rest" in data[:2048]:
                found[str(peer[0])] = None

    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
    end.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    end.bind((address, 0))
    transport, _ = await loop.create_datagram_endpoint(Answers, sock=end)
    try:
        for _ in range(2):
            transport.sendto(_SEARCH.encode(), target)
            await asyncio.sleep(wait_s / 2)
    finally:
        transport.close()
    return list(found)
