"""Who holds a port: read from /proc, so that "address already in use" can name the program."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from baremetal.serve.sockets import PortTaken

_LISTEN = "0A"  # TCP state in /proc/net/tcp


def holder(protocol: str, port: int, address: str | None = None) -> str | None:
    """ "dnsmasq (pid 812)" for `tcp` or `udp`; None when nobody is seen (or not allowed to see)."""
    inodes = _inodes(protocol, port, address) | _inodes(f"{protocol}6", port, None)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        if any(link in wanted for link in _links(process / "fd")):
            return f"{_name(process)} (pid {process.name})"
    return "a process that we may not see"


def taken(protocol: str, address: str, port: int) -> PortTaken:
    """The error for a port that somebody has."""
    who = holder(protocol, port, address) or "another program"
    return PortTaken(
        f"{protocol.upper()} port {port} on {address} is taken by {who}",
        fix=f"{way_out(who)}, or set another port in the configuration",
    )


def _links(directory: Path) -> Iterator[str]:
    """What the descriptors of a process are; those that close meanwhile are left out."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            yield os.readlink(directory / name)


def _name(process: Path) -> str:
    """What somebody would call it: a server of ours is no `python3`."""
    try:
        if b"baremetal.serve." in (process / "cmdline").read_bytes():
            return "another baremetal server"
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process"


def way_out(who: str) -> str:
    """How the program that `holder` named is stopped."""
    name, _, pid = who.removesuffix(")").rpartition(" (pid ")
    if name == "another baremetal server":
        return f"stop it (systemctl stop baremetal, or: kill {pid})"
    if name.startswith("python") or not pid:  # an interpreter is no service
        return f"stop it (kill {pid})" if pid else "stop it"
    return f"stop it (systemctl stop {name}?)"


def _inodes(table: str, port: int, address: str | None) -> set[str]:
    try:
        lines = Path("/proc/net", table).read_text().splitlines()[1:]
    except OSError:
        return set()
    found = set()
    for line in lines:
        fields = line.split()
        local, state, inode = fields[1], fields[3], fields[9]
        host, _, hex_port = local.rpartition(":")
        if int(hex_port, 16) != port or (table.startswith("tcp") and state != _LISTEN):
            continue
        if address and host not in ("00000000", _little_endian(address)):
            continue
        found.add(inode)
    return found - {"0"}


def _little_endian(address: str) -> str:
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
