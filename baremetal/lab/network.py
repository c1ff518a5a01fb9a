"""The provisioning network of a rack: bridge, taps, BMC addresses, in the current network namespace.

Never run on the host's own network: `refuse_host` is asked first.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from baremetal.errors import MachineError, Refused
from baremetal.lab import namespace, tools
from baremetal.lab.spec import RackSpec

_MAX_NAME = 15
_SIOCGIFFLAGS = 0x8913
# Its own, or the bridge takes the lowest of its ports and changes as they come.
_BRIDGE_MAC = "52:54:00:90:ff:01"


def refuse_host() -> None:
    """Raise when we are in the host's network: the lab would answer DHCP on real wires."""
    if namespace.inside() or not _hosts_own():
        return
    raise Refused(
        "a rack is never built in the host's own network",
        detail="this process shares the network namespace of process 1, or it has interfaces that are up",
        fix="baremetal lab up makes namespaces of its own; in a test: unshare --net",
    )


def _hosts_own() -> bool:
    try:
        return os.readlink("/proc/self/ns/net") == os.readlink("/proc/1/ns/net")
    except OSError:  # process 1 is hidden from us: a network namespace made for a lab has nothing that is up
        return any(_is_up(name) for _, name in socket.if_nameindex() if name != "lo")


def _is_up(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sh14x", interface.encode(), 0))
    flags: int = struct.unpack_from("16sh", answer)[1]
    return bool(flags & 1)


async def ip(*lines: str) -> None:
    """Run several `ip` commands in one batch; the first that fails is named."""
    process = await asyncio.create_subprocess_exec(
        *(tools.find("ip") or "ip", "-batch", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate("\n".join(lines).encode())
    if process.returncode:
        raise MachineError(
            "the lab's network cannot be built",
            detail=output.decode(errors="replace").strip(),
            fix="is the tun module there? modprobe tun",
        )


def tap_name(machine: int, nic: int) -> str:
    """Name of the tap of a machine's NIC."""
    return f"tap{machine}n{nic}"


class RackNetwork:
    """One bridge with a tap for each NIC, and a /32 on lo for each BMC."""

    def __init__(self, spec: RackSpec) -> None:
        if len(spec.bridge) > _MAX_NAME:
            raise ValueError(f"an interface name has at most {_MAX_NAME} characters: {spec.bridge}")
        self.spec = spec
        self.taps = {n.name: tuple(tap_name(i, k) for k in range(n.nics)) for i, n in enumerate(spec.nodes)}

    async def up(self) -> None:
        """Build it. One end of a veth pair, always up, keeps the bridge's carrier up while every machine is off."""
        refuse_host()
        spec, bridge = self.spec, self.spec.bridge
        await ip("link set lo up", f"link add {bridge} address {_BRIDGE_MAC} type bridge stp_state 0 forward_delay 0")
        # Duplicate address detection would hold the IPv6 address back for a second.
        _write(f"/proc/sys/net/ipv6/conf/{bridge}/accept_dad", "0")
        await ip(
            f"link add {bridge}up type veth peer name {bridge}peer",
            # Deaf: it would answer ARP for the server's address, and packets would come in by the wrong interface.
            f"link set {bridge}peer arp off multicast off up",
            f"link set {bridge}up master {bridge} up",
            f"addr add {spec.server}/{spec.cidr.partition('/')[2]} dev {bridge}",
            *((f"addr add {spec.ula} dev {bridge} nodad",) if spec.ula else ()),
            f"link set {bridge} up",
        )
        await self._add_addresses(node.bmc_address for node in spec.nodes)
        await ip(*(line for tap in self._all_taps() for line in self._tap(tap)))

    async def down(self) -> None:
        """Take it away; with the namespace it goes by itself."""
        taps = self._all_taps()
        addresses = [f"addr del {node.bmc_address}/32 dev lo" for node in self.spec.nodes]
        await ip(
            *(f"link del {tap}" for tap in taps),
            f"link del {self.spec.bridge}up",
            f"link del {self.spec.bridge}",
            *addresses,
        )

    async def cable(self, name: str, connected: bool) -> None:
        """Pull or plug every cable of a machine."""
        state = "up" if connected else "down"
        await ip(*(f"link set {tap} {state}" for tap in self.taps[name]))

    def _all_taps(self) -> list[str]:
        return [tap for taps in self.taps.values() for tap in taps]

    def _tap(self, tap: str) -> tuple[str, ...]:
        return (f"tuntap add dev {tap} mode tap", f"link set {tap} master {self.spec.bridge} up")

    async def _add_addresses(self, addresses: Iterable[str]) -> None:
        await ip(*(f"addr add {address}/32 dev lo" for address in addresses))


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


async def neighbours(bridge: str) -> dict[str, str]:
    """IPv4 address by MAC, as the kernel last saw them on the bridge."""
    process = await asyncio.create_subprocess_exec(
        *(tools.find("ip") or "ip", "-4", "neigh", "show", "dev", bridge), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    found = {}
    for line in output.decode().splitlines():
        words = line.split()
        if "lladdr" in words:
            found[words[words.index("lladdr") + 1]] = words[0]
    return found
