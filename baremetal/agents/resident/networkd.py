"""OpenStack's network_data as files for systemd-networkd. Pure.

Links: phy (and the virtual NIC types Nova uses), bond, vlan, bridge. Networks:
ipv4, ipv4_dhcp, ipv6, ipv6_dhcp, ipv6_slaac, with routes and name servers.
Interfaces are matched by MAC address, members of a bond by the permanent one,
because a bond changes the other.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List, Optional

from baremetal.errors import BaremetalError

PREFIX = "10-baremetal-"
PHYSICAL = ("phy", "ovs", "vif", "tap", "bridge_port", "vhostuser", "hw_veb", "hyperv", "cascading", "dvs", "other")
BOND_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[^A-Za-z0-9_.-]")


class BadNetworkData(BaremetalError):
    """network_data that cannot be turned into a configuration."""

    code = "network-data"


def plain(data: Dict[str, Any]) -> bool:
    """Only DHCP or autoconfiguration on physical links: what the image does by itself."""
    links, networks = _lists(data)
    automatic = ("ipv4_dhcp", "ipv6_dhcp", "ipv6_slaac", "ipv6_dhcpv6-stateless", "ipv6_dhcpv6-stateful")
    return all(link.get("type") in PHYSICAL and not link.get("mtu") for link in links) and all(
        network.get("type") in automatic for network in networks
    )


def render(data: Dict[str, Any]) -> Dict[str, str]:
    """File name -> text, for /etc/systemd/network; BadNetworkData says which entry is wrong."""
    return _Renderer(data).files()


class _Renderer:
    def __init__(self, data: Dict[str, Any]) -> None:
        self.links, self.networks = _lists(data)
        self.services = [s for s in data.get("services") or [] if isinstance(s, dict)]
        self.by_id: Dict[str, Dict[str, Any]] = {}
        for link in self.links:
            if not isinstance(link.get("id"), str) or link["id"] in self.by_id:
                raise BadNetworkData(f"network_data: a link has no id of its own: {link.get('id')!r}")
            self.by_id[link["id"]] = link
        self.parent: Dict[str, Dict[str, Any]] = {}
        for link in self.links:
            for member in link.get(f"{link.get('type')}_links") or []:
                self._link(member, link["id"])
                self.parent[member] = link

    def files(self) -> Dict[str, str]:
        found: Dict[str, str] = {}
        for network in self.networks:
            self._link(network.get("link"), f"network {network.get('id')}")
        for link in self.links:
            stem = PREFIX + _file_name(link["id"])
            device = self._netdev(link)
            if device:
                found[f"{stem}.netdev"] = device
            found[f"{stem}.network"] = self._network(link)
        return found

    def _link(self, link_id: Any, where: str) -> Dict[str, Any]:
        if link_id not in self.by_id:
            raise BadNetworkData(f"network_data: {where} refers to link {link_id!r}, which does not exist")
        return self.by_id[link_id]

    def _netdev(self, link: Dict[str, Any]) -> Optional[str]:
        kind = link.get("type")
        if kind in PHYSICAL:
            return None
        lines = ["[NetDev]", f"Name={device_name(link, self.by_id)}", f"Kind={kind}"]
        mac = link.get("vlan_mac_address") if kind == "vlan" else link.get("ethernet_mac_address")
        if mac:
            lines.append(f"MACAddress={_mac(mac, link)}")
        if link.get("mtu"):
            lines.append(f"MTUBytes={_number(link, 'mtu', 68, 65535)}")
        if kind == "bond":
            lines += ["", "[Bond]", *_bond(link)]
        elif kind == "vlan":
            lines += ["", "[VLAN]", f"Id={_number(link, 'vlan_id', 1, 4094)}"]
        elif kind != "bridge":
            raise BadNetworkData(f"network_data: link {link['id']} has type {kind!r}", fix="phy, bond, vlan or bridge")
        return "\n".join(lines) + "\n"

    def _network(self, link: Dict[str, Any]) -> str:
        parent = self.parent.get(link["id"])
        lines = ["[Match]", self._match(link, parent), "", "[Network]"]
        if parent is not None:
            lines.append(f"{'Bond' if parent['type'] == 'bond' else 'Bridge'}={device_name(parent, self.by_id)}")
        lines += [f"VLAN={device_name(v, self.by_id)}" for v in self.links if v.get("vlan_link") == link["id"]]
        mine = [n for n in self.networks if n.get("link") == link["id"]]
        lines += _protocols(mine)
        lines += _addresses(mine)
        lines += [f"DNS={_address(s.get('address'), 'service')}" for s in self._dns(mine)]
        for network in mine:
            lines += _routes(network)
        if link.get("mtu") and link.get("type") in PHYSICAL:
            lines += ["", "[Link]", f"MTUBytes={_number(link, 'mtu', 68, 65535)}"]
        if any(n.get("type") == "ipv4_dhcp" for n in mine):
            lines += ["", "[DHCPv4]", "ClientIdentifier=mac"]
        return "\n".join(lines) + "\n"

    def _match(self, link: Dict[str, Any], parent: Optional[Dict[str, Any]]) -> str:
        if link.get("type") not in PHYSICAL:
            return f"Name={device_name(link, self.by_id)}"
        bonded = parent is not None and parent.get("type") == "bond"
        mac = _mac(link.get("ethernet_mac_address"), link)
        return f"{'PermanentMACAddress' if bonded else 'MACAddress'}={mac}" + ("" if bonded else "\nType=ether")

    def _dns(self, mine: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Name servers of the document go to every link that has an address."""
        own = [s for n in mine for s in n.get("services") or []]
        return [s for s in own + (self.services if mine else []) if isinstance(s, dict) and s.get("type") == "dns"]


def device_name(link: Dict[str, Any], by_id: Dict[str, Dict[str, Any]]) -> str:
    """The kernel's name of a virtual device: at most 15 characters, no slash or blank."""
    if link.get("type") == "vlan":
        parent = by_id.get(str(link.get("vlan_link")))
        if parent is None:
            raise BadNetworkData(f"network_data: vlan {link['id']} has no vlan_link")
        return f"vlan{_number(link, 'vlan_id', 1, 4094)}"
    return _NAME.sub("-", str(link.get("name") or link["id"]))[:15]


def _lists(data: Dict[str, Any]) -> "tuple[list[Dict[str, Any]], list[Dict[str, Any]]]":
    found = []
    for key in ("links", "networks"):
        entries = data.get(key) or []
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise BadNetworkData(f"network_data: {key} is not a list of objects")
        found.append(entries)
    return found[0], found[1]


def _bond(link: Dict[str, Any]) -> List[str]:
    mode = link.get("bond_mode", "active-backup")
    if mode not in BOND_MODES:
        raise BadNetworkData(f"network_data: bond {link['id']} has mode {mode!r}", fix=", ".join(BOND_MODES))
    lines = [
        f"Mode={mode}",
        f"MIIMonitorSec={_number({'id': link['id'], 'm': link.get('bond_miimon', 100)}, 'm', 0, 60000)}ms",
    ]
    if link.get("bond_xmit_hash_policy"):
        lines.append(f"TransmitHashPolicy={_word(link['bond_xmit_hash_policy'], link)}")
    if mode == "802.3ad":
        lines.append("LACPTransmitRate=fast")
    return lines


def _protocols(networks: List[Dict[str, Any]]) -> List[str]:
    kinds = {n.get("type") for n in networks}
    v4 = "ipv4_dhcp" in kinds
    v6 = bool(kinds & {"ipv6_dhcp", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless"})
    lines = [f"DHCP={'yes' if v4 and v6 else 'ipv4' if v4 else 'ipv6' if v6 else 'no'}"]
    lines.append(f"IPv6AcceptRA={'yes' if v6 or 'ipv6_slaac' in kinds else 'no'}")
    if not networks:
        lines.append("LinkLocalAddressing=no")
    return lines


def _addresses(networks: List[Dict[str, Any]]) -> List[str]:
    lines = []
    for network in networks:
        if network.get("type") not in ("ipv4", "ipv6"):
            continue
        lines.append(f"Address={_interface(network)}")
        if network.get("gateway"):
            lines.append(f"Gateway={_address(network['gateway'], network.get('id'))}")
    return lines


def _interface(network: Dict[str, Any]) -> str:
    text = str(network.get("ip_address", ""))
    if "/" not in text and network.get("netmask"):
        text = f"{text}/{_prefix_length(str(network['netmask']), network.get('id'))}"
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError as exc:
        raise BadNetworkData(f"network_data: network {network.get('id')}: {exc}") from exc


def _prefix_length(mask: str, where: Any) -> int:
    """255.255.255.0 or ffff:ffff:: or 24."""
    if mask.isdigit():
        return int(mask)
    try:
        bits = int(ipaddress.ip_address(mask))
    except ValueError as exc:
        raise BadNetworkData(f"network_data: {where}: netmask {mask!r}") from exc
    width = 128 if ":" in mask else 32
    ones = bin(bits).count("1")
    if bits != ((1 << ones) - 1) << (width - ones):
        raise BadNetworkData(f"network_data: {where}: {mask} is no netmask")
    return ones


def _routes(network: Dict[str, Any]) -> List[str]:
    lines: List[str] = []
    for route in network.get("routes") or []:
        if not isinstance(route, dict):
            raise BadNetworkData(f"network_data: network {network.get('id')} has a route that is no object")
        target = f"{_address(route.get('network'), 'route')}/{_prefix_length(str(route.get('netmask', '')), 'route')}"
        lines += ["", "[Route]", f"Destination={target}"]
        if route.get("gateway"):
            lines.append(f"Gateway={_address(route['gateway'], 'route')}")
    return lines


def _address(text: Any, where: Any) -> str:
    try:
        return str(ipaddress.ip_address(str(text)))
    except ValueError as exc:
        raise BadNetworkData(f"network_data: {where}: {exc}") from exc


def _mac(text: Any, link: Dict[str, Any]) -> str:
    mac = str(text).lower()
    if not _MAC.fullmatch(mac):
        raise BadNetworkData(f"network_data: link {link['id']} has MAC address {text!r}")
    return mac


def _number(link: Dict[str, Any], key: str, low: int, high: int) -> int:
    value = link.get(key)
    try:
        number = int(str(value))
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise BadNetworkData(f"network_data: link {link['id']}: {key} is {value!r}, not {low} to {high}")
    return number


def _word(text: Any, link: Dict[str, Any]) -> str:
    if not re.fullmatch(r"[a-z0-9+]+", str(text)):
        raise BadNetworkData(f"network_data: link {link['id']}: {text!r}")
    return str(text)


def _file_name(link_id: str) -> str:
    return _NAME.sub("-", link_id)[:60]
