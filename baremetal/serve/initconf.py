"""Files that `init` writes for a person: the configuration, and the systemd unit."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from baremetal.errors import MachineError, UsageError

UNITS = Path(__file__).parent / "units"
UNIT_DIR = Path("/etc/systemd/system")
SYSUSERS_DIR = Path("/etc/sysusers.d")

STATE_LINE = '# state_dir = "/var/lib/baremetal"\n'
HEAD = """# Settings of baremetal; each is explained by `baremetal settings` and docs/reference/settings.md.
# Order of precedence: this file < environment BAREMETAL_* < flags. Passwords never stand here.

# state_dir = "/var/lib/baremetal"
# api_listen = "127.0.0.1:6385"     # control API on TCP, beside the unix socket
# user = "baremetal"                # give up root for this user (made by init --systemd)
# boot_user = "baremetal-boot"
"""

EXAMPLE = """
# A provisioning network: uncomment, and name the interface your servers' PXE ports are cabled to.
# [[network]]
# interface = "eno2"
# cidr = "10.0.0.0/24"
# server = "10.0.0.1"               # this machine's address on it
# range = "10.0.0.100-10.0.0.199"
# router = "10.0.0.254"
# dns = ["10.0.0.254"]
"""


@dataclass(frozen=True)
class Answers:
    """What is known of a network. `relayed`: DHCP relays bring its requests to our address elsewhere."""

    interface: str
    server: str
    cidr: str
    first: str = ""
    last: str = ""
    router: str = ""
    dns: tuple[str, ...] = ()
    name: str = ""
    relayed: bool = False

    def toml(self) -> str:
        lines = ["", "[[network]]"]
        notes = {"range": "      # addresses that are free: they are given to machines"}
        lines += [f"{k} = {quote(v)}{notes.get(k, '')}" for k, v in self._pairs() if v]
        if self.dns:
            lines.append(f"dns = [{', '.join(map(quote, self.dns))}]")
        if self.relayed:
            lines.append("relayed = true      # its requests come through a DHCP relay that sends them to `server`")
        return "\n".join(lines) + "\n"

    def _pairs(self) -> list[tuple[str, str]]:
        pool = f"{self.first}-{self.last}" if self.first and self.last else ""
        names = ("name", "interface", "cidr", "server", "range", "router")
        values = (self.name, self.interface, self.cidr, self.server, pool, self.router)
        return list(zip(names, values, strict=True))


def write(
    path: Path, *, interface: str = "", undercloud_conf: Path | None = None, state_dir: Path | None = None
) -> bool:
    """Write the configuration file unless it is there. True when it was written.

    With `state_dir` all that the server writes is below that directory: a trial that leaves /var and /run alone.
    """
    if path.exists():
        if interface or undercloud_conf or state_dir:
            raise UsageError(
                f"{path} is there already", fix=f"edit its [[network]] tables, or move it away: mv {path} {path}.old"
            )
        return False
    text = HEAD if state_dir is None else HEAD.replace(STATE_LINE, _all_below(state_dir.absolute()))
    if undercloud_conf is not None:
        from baremetal.serve import undercloud  # which builds on what is here

        text += undercloud.read(undercloud_conf)
    elif interface:
        text += from_interface(interface).toml()
    else:
        text += EXAMPLE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as exc:
        raise MachineError(
            f"cannot write {path}: {exc.strerror}", fix="run as root, or name another file with --config"
        ) from exc
    return True


def _all_below(directory: Path) -> str:
    places = {"state_dir": "state", "run_dir": "run", "cache_dir": "cache"}
    return "".join(f"{name} = {quote(str(directory / sub))}\n" for name, sub in places.items())


def quote(text: str) -> str:
    """A TOML basic string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def from_interface(name: str) -> Answers:
    """The interface's own IPv4 address tells the rest."""
    if name not in [known for _, known in socket.if_nameindex()]:
        raise UsageError(f"there is no interface {name}", fix="see: ip link")
    address = interface_address(name)
    if address is None:
        raise UsageError(
            f"interface {name} has no IPv4 address", fix=f"give it one first: ip addr add 10.0.0.1/24 dev {name}"
        )
    first, last = _upper_half(address)
    return Answers(name, str(address.ip), str(address.network), first, last)


def _upper_half(address: ipaddress.IPv4Interface) -> tuple[str, str]:
    """What is given out when nothing is said, written down: the operator should see it. "" when it is too small."""
    net = address.network
    if net.prefixlen > 30:
        return "", ""
    first, last = net.network_address + net.num_addresses // 2, net.broadcast_address - 1
    if first <= address.ip <= last:
        first = address.ip + 1
    return (str(first), str(last)) if first <= last else ("", "")


def interface_address(name: str) -> ipaddress.IPv4Interface | None:
    """The first IPv4 address of an interface (SIOCGIFADDR, SIOCGIFNETMASK)."""
    import fcntl
    import struct

    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            address = fcntl.ioctl(sock, 0x8915, request)[20:24]
            mask = fcntl.ioctl(sock, 0x891B, request)[20:24]
        except OSError:
            return None
    return ipaddress.IPv4Interface(f"{socket.inet_ntoa(address)}/{socket.inet_ntoa(mask)}")


def install_units(config: Path) -> list[str]:
    """The unit and its users; returns what was written. systemd is told by the operator's next command."""
    if os.geteuid() != 0:
        raise MachineError("only root can install a systemd unit", fix="sudo baremetal init --systemd")
    command = shutil.which("baremetal") or f"{sys.executable} -m baremetal"
    text = (UNITS / "baremetal.service").read_text()
    text = text.replace("@BAREMETAL@", command).replace("@CONFIG@", str(config))
    written = []
    for target, content in (
        (UNIT_DIR / "baremetal.service", text),
        (SYSUSERS_DIR / "baremetal.conf", (UNITS / "baremetal.sysusers").read_text()),
    ):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        except OSError as exc:
            raise MachineError(f"cannot write {target}: {exc.strerror}") from exc
        written.append(str(target))
    return written
