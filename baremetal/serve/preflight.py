"""Can `serve` work here? Each check is small and says what to do; doctor shows them all, serve stops at the first."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from baremetal.config import Settings
from baremetal.errors import BaremetalError, MachineError, UsageError
from baremetal.model.network import Network

SPACE_BYTES = 64 * 1024 * 1024  # below this the database and the journals may stop any moment
NET_BIND_SERVICE, NET_RAW = 10, 13


def check(settings: Settings) -> None:
    """Raise the first thing that stands in the way."""
    for problem in problems(settings):
        raise problem


def problems(settings: Settings) -> Iterator[BaremetalError]:
    """Everything that stands in the way of `serve`, cheap checks only; ports are tried by the processes themselves."""
    if not settings.networks:
        yield UsageError(
            "no provisioning network is configured",
            fix="add a [[network]] table to the configuration (docs/how-to/first-real-node.md), or: baremetal init",
        )
    yield from _rights(settings)
    yield from _made(settings)
    yield from _space(settings.state_dir)
    for network in settings.networks:
        yield from _network(network)


def possible(network: Network) -> None:
    """Raise what stands in the way of serving this network."""
    for problem in _network(network):
        raise problem


def _rights(settings: Settings) -> Iterator[BaremetalError]:
    have = capabilities()
    low = min(settings.dhcp_port, settings.tftp_port, settings.http_port, settings.https_port) < _first_free_port()
    if NET_RAW not in have or (low and NET_BIND_SERVICE not in have):
        who = f"user {os.geteuid()}"
        yield MachineError(
            f"serve needs root (or the capabilities NET_RAW and NET_BIND_SERVICE); this is {who}",
            fix="sudo baremetal serve, or the shipped systemd unit: systemctl start baremetal",
        )


def _made(settings: Settings) -> Iterator[BaremetalError]:
    keys = [settings.keys_dir / f"{name}.key" for name in ("operator", "metadata", "boot")]
    if os.environ.get("CREDENTIALS_DIRECTORY"):
        keys = []  # the processes look there first
    needed = [*keys, settings.tls_dir / "server.pem"]
    missing = [path for path in needed if not _exists(path)]
    if missing:
        yield MachineError(
            "keys or certificates are missing", detail="\n".join(map(str, missing)), fix="baremetal init"
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _space(directory: Path) -> Iterator[BaremetalError]:
    try:
        free = shutil.disk_usage(directory).free
    except OSError:
        return  # _made has said it
    if free < SPACE_BYTES:
        yield MachineError(
            f"the disk is full: {free >> 20} MiB free in {directory}",
            fix="free space there (baremetal image list shows what is large), then start again",
        )


def _network(network: Network) -> Iterator[BaremetalError]:
    names = [name for _, name in socket.if_nameindex()]  # /sys/class/net may belong to another namespace
    if network.interface not in names:
        there = ", ".join(sorted(name for name in names if name != "lo"))
        yield MachineError(
            f"network {network.name}: there is no interface {network.interface}",
            detail=f"interfaces here: {there or 'none'}",
            fix="correct `interface` in the configuration, or create it",
        )
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((network.server, 0))
        except OSError:
            prefix = network.cidr.partition("/")[2]
            yield MachineError(
                f"network {network.name}: address {network.server} is not on {network.interface}",
                fix=f"ip addr add {network.server}/{prefix} dev {network.interface}, or correct `server`",
            )


def capabilities() -> frozenset[int]:
    """Effective capabilities of this process, as numbers."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapEff:"):
                bits = int(line.split()[1], 16)
                return frozenset(n for n in range(64) if bits >> n & 1)
    return frozenset()


def _first_free_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024
