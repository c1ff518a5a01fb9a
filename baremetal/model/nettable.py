"""[[network]] tables of the configuration file -> model.network.Network, each mistake named.

[[network]]
interface = "eno2"            # where we listen; the name defaults to it
cidr = "10.0.0.0/24"
server = "10.0.0.1"           # our address there
range = "10.0.0.100-10.0.0.199"   # default: the upper half of the subnet
router = "10.0.0.254"
dns = ["10.0.0.254"]
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from baremetal.errors import UsageError
from baremetal.model.network import Mode, Network

KEYS: dict[str, str] = {
    "name": "how the network is called; default: the interface",
    "interface": "where DHCP is served (required)",
    "cidr": "the subnet, like 10.0.0.0/24 (required)",
    "server": "our address in it (required)",
    "range": "addresses to give out, first-last; default: the upper half of the subnet",
    "router": "default gateway handed out",
    "dns": "list of name servers handed out",
    "domain": "domain name handed out",
    "lease_s": "lease time in seconds; default 3600",
    "mode": "known: answer enrolled machines only (default); discover: also record unknown ones; anybody",
    "proxy": "true: answer boot questions only, beside a foreign DHCP server",
    "ra_prefix": "a ULA /64: send router advertisements with lifetime 0 (spares iPXE its wait for one)",
    "options": "table of further DHCP options, name or number -> text",
    "relayed": "true: the subnet is reached through DHCP relays; interface and server are those that relays send to",
    "reservations": "table of MAC, uuid:… or circuit:… (switch port) -> address, for machines that are no nodes",
}
MAX_LEASE_S = 365 * 86400
CheckOptions = Callable[[Mapping[str, str]], object]
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def networks_from(
    tables: Any, source: str, problems: list[str], check_options: CheckOptions = lambda _options: None
) -> tuple[Network, ...]:
    """All networks that can be read; mistakes are appended to `problems`. `disjoint` says if they go together.

    `check_options` raises ValueError or UsageError for DHCP options that do not exist (wire/dhcp4/options.py).
    """
    if not isinstance(tables, list):
        problems.append(f"{source}: networks are written as [[network]] tables")
        return ()
    networks: list[Network] = []
    for index, table in enumerate(tables):
        where = f"{source}: [[network]] {index + 1}"
        if not isinstance(table, Mapping):
            problems.append(f"{where}: not a table")
            continue
        before = len(problems)
        network = _network(table, where, problems, check_options)
        if network is not None and len(problems) == before:
            networks.append(network)
    return tuple(networks)


def _network(table: Mapping[str, Any], where: str, problems: list[str], check_options: CheckOptions) -> Network | None:
    for key in table:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            problems.append(f"{where}: unknown key {key!r}{hint}")
    missing = [key for key in ("interface", "cidr", "server") if not isinstance(table.get(key), str)]
    if missing:
        problems.append(f"{where}: {', '.join(missing)} missing")
        return None
    try:
        network = _build(table)
        check_options(network.options)
        return network
    except UsageError as exc:
        problems.append(f"{where}: {exc.brief}" + (f" ({exc.fix})" if exc.fix else ""))
        return None
    except (ValueError, TypeError) as exc:
        problems.append(f"{where}: {exc}")
        return None


def _build(table: Mapping[str, Any]) -> Network:
    subnet = ipaddress.IPv4Network(table["cidr"])
    if subnet.prefixlen > 30:
        raise ValueError(f"{subnet} is too small for a server and a node")
    relayed = _flag(table, "relayed")
    server = ipaddress.IPv4Address(table["server"]) if relayed else _inside(table["server"], subnet, "server")
    first, last = _range(table.get("range"), subnet)
    if first <= server <= last:
        if table.get("range"):
            raise ValueError(f"server {server} lies inside the range {first}-{last}")
        first = server + 1
    if first > last:
        raise ValueError(f"range {first}-{last} is empty")
    return Network(
        name=_text(table, "name") or table["interface"],
        interface=table["interface"],
        cidr=str(subnet),
        server=str(server),
        range_first=str(first),
        range_last=str(last),
        router=str(_inside(table["router"], subnet, "router")) if table.get("router") else None,
        dns=tuple(str(ipaddress.IPv4Address(a)) for a in _list(table, "dns")),
        domain=_text(table, "domain"),
        lease_s=_lease(table.get("lease_s", 3600)),
        mode=_mode(table.get("mode", Mode.KNOWN)),
        proxy=_flag(table, "proxy"),
        ra_prefix=_ula(table.get("ra_prefix")),
        options=_options(table.get("options", {})),
        relayed=relayed,
        reservations=_reservations(table.get("reservations", {}), subnet),
    )


def _inside(text: Any, subnet: ipaddress.IPv4Network, what: str) -> ipaddress.IPv4Address:
    address = ipaddress.IPv4Address(text)
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        raise ValueError(f"{what} {address} is no host address of {subnet}")
    return address


def _range(text: Any, subnet: ipaddress.IPv4Network) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    if text is None:
        middle = subnet.network_address + subnet.num_addresses // 2
        return middle, subnet.broadcast_address - 1
    first, dash, last = str(text).partition("-")
    if not dash:
        raise ValueError(f"range {text!r} is not first-last")
    return _inside(first.strip(), subnet, "range"), _inside(last.strip(), subnet, "range")


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} {value!r} is not text")
    return value


def _list(table: Mapping[str, Any], key: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise ValueError(f"{key} {value!r} is not a list")
    return value


def _flag(table: Mapping[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key} {value!r} is neither true nor false")
    return value


def _lease(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 60 <= value <= MAX_LEASE_S:
        raise ValueError(f"lease_s {value!r} is not between 60 seconds and a year")
    return value


def _mode(value: Any) -> Mode:
    try:
        return Mode(value)
    except ValueError:
        raise ValueError(f"mode {value!r} is none of {', '.join(Mode)}") from None


def _ula(value: Any) -> str | None:
    if value is None:
        return None
    prefix = ipaddress.IPv6Network(value)
    if prefix.prefixlen != 64 or not prefix.subnet_of(ipaddress.IPv6Network("fc00::/7")):
        raise ValueError(f"ra_prefix {value!r} is not a ULA /64 (like fd00:1:2:3::/64)")
    return str(prefix)


def _options(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("options is not a table")
    for name, text in value.items():
        if not isinstance(text, str):
            raise ValueError(f"option {name} = {text!r} is not text")
    return dict(value)


def _reservations(value: Any, subnet: ipaddress.IPv4Network) -> dict[str, str]:
    """Keys as the boot plane looks them up: lower-case MAC with colons, uuid:…, circuit:…"""
    if not isinstance(value, Mapping):
        raise ValueError("reservations is not a table")
    found: dict[str, str] = {}
    for key, address in value.items():
        kind, _, rest = key.partition(":")
        if kind == "uuid":
            key = f"uuid:{uuid.UUID(rest)}"
        elif kind == "circuit":
            if not rest:
                raise ValueError("reservation circuit: names no circuit")
        elif not _MAC.fullmatch(key.lower().replace("-", ":")):
            raise ValueError(f"reservation {key!r} is neither a MAC address nor uuid:… nor circuit:…")
        else:
            key = key.lower().replace("-", ":")
        found[key] = str(_inside(address, subnet, f"reservation {key}:"))
    if len(set(found.values())) != len(found):
        raise ValueError("two reservations for one address")
    return found


def disjoint(networks: Sequence[Network], source: str, problems: list[str]) -> None:
    """No name, link or address twice; one link may carry one subnet of its own and any number of relayed ones."""
    for i, a in enumerate(networks):
        for b in networks[:i]:
            if a.name == b.name:
                problems.append(f"{source}: two networks are called {a.name!r}")
            if a.interface == b.interface and not a.relayed and not b.relayed:
                problems.append(f"{source}: two networks on interface {a.interface} (is one of them relayed?)")
            if ipaddress.IPv4Network(a.cidr).overlaps(ipaddress.IPv4Network(b.cidr)):
                problems.append(f"{source}: networks {b.name} and {a.name} overlap")
    for network in networks:
        links = [n for n in networks if n.interface == network.interface and not n.relayed]
        if network.relayed and not any(link.server == network.server for link in links):
            wanted = f"no network on {network.interface} has server {network.server}"
            problems.append(f"{source}: relayed network {network.name}: {wanted}")
