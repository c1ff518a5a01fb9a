"""Looks for DHCP servers on a wire: one DISCOVER from a made-up MAC, answers heard for some seconds.

Never takes the lease. scapy builds and reads the packets, so that our own codec
cannot hide its own mistakes.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from baremetal.errors import MachineError

LISTEN_S = 3.0
NOWHERE = "0.0.0.0"  # noqa: S104 (an unset field, not a listening address)


@dataclass(frozen=True)
class Offer:
    """What one DHCP server answers a PXE client: an address (0.0.0.0: a proxyDHCP server), and perhaps a boot file."""

    server: str
    mac: str
    address: str
    next_server: str = ""
    boot_file: str = ""


def probe(interface: str, listen_s: float = LISTEN_S) -> list[str]:
    """Addresses of the DHCP servers that answer on this interface, ours included."""
    return [offer.server for offer in offers(interface, listen_s)]


def offers(interface: str, listen_s: float = LISTEN_S, arch: int = 7, mac: str = "") -> list[Offer]:
    """Offers to a UEFI x86-64 machine (`arch` of RFC 4578), one a server. `mac`: ask as this machine."""
    import logging

    logging.getLogger("scapy").setLevel(logging.ERROR)
    from scapy.config import conf
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.sendrecv import srp

    mac = mac or f"02:{secrets.token_bytes(5).hex(':')}"  # locally administered
    raw = bytes.fromhex(mac.replace(":", ""))
    boot = [
        ("vendor_class_id", f"PXEClient:Arch:{arch:05}:UNDI:003016".encode()),
        ("pxe_client_architecture", arch.to_bytes(2, "big")),
        ("pxe_client_network_interface", b"\1\3\x10"),
        ("pxe_client_machine_identifier", b"\0" + secrets.token_bytes(16)),
    ]
    discover = (
        Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104 (what a client without address sends)
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=raw, xid=secrets.randbits(32), flags=0x8000)
        / DHCP(options=[("message-type", "discover"), ("param_req_list", [1, 3, 6, 43, 60, 66, 67]), *boot, "end"])
    )
    conf.checkIPaddr = False  # an offer comes from an address that we did not ask
    try:
        answered, _ = srp(discover, iface=interface, timeout=listen_s, multi=True, verbose=False)
    except OSError as exc:
        raise MachineError(f"cannot probe {interface}", detail=str(exc), fix="run as root; see: ip link") from exc
    found = {offer.server: offer for _, answer in answered if answer.haslayer(DHCP) and (offer := _offer(answer))}
    return [found[server] for server in sorted(found)]


def _offer(answer: Any) -> Offer:
    """Who answers (option 54, else the sender), and with what."""
    named = {option[0]: option[1] for option in answer["DHCP"].options if isinstance(option, tuple)}
    bootp = answer["BOOTP"]
    file = bytes(bootp.file).rstrip(b"\0") or bytes(named.get("boot-file-name", b"")).rstrip(b"\0")
    there = str(bootp.siaddr) if str(bootp.siaddr) != NOWHERE else _text(named.get("tftp_server_name", b""))
    server = str(named.get("server_id", answer["IP"].src))
    return Offer(server, str(answer["Ether"].src), str(bootp.yiaddr), there or server, file.decode("latin-1"))


def _text(value: Any) -> str:
    return value.rstrip(b"\0").decode("latin-1") if isinstance(value, bytes) else str(value)
