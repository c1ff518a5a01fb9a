"""Looks for DHCP servers on a wire: one DISCOVER from a made-up MAC, answers heard for some seconds.

Never takes the lease. scapy builds and reads the packets, so that our own codec
cannot hide its own mistakes.
"""

from __future__ import annotations

import secrets
from typing import Any

from baremetal.errors import MachineError

LISTEN_S = 3.0


def probe(interface: str, listen_s: float = LISTEN_S) -> list[str]:
    """Addresses of the DHCP servers that answer on this interface, ours included."""
    import logging

    logging.getLogger("scapy").setLevel(logging.ERROR)
    from scapy.config import conf
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.sendrecv import srp

    raw = b"\x02" + secrets.token_bytes(5)  # locally administered
    mac = ":".join(f"{byte:02x}" for byte in raw)
    discover = (
        Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104 (what a client without address sends)
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=raw, xid=secrets.randbits(32), flags=0x8000)
        / DHCP(options=[("message-type", "discover"), ("param_req_list", [1, 3, 6]), "end"])
    )
    conf.checkIPaddr = False  # an offer comes from an address that we did not ask
    try:
        answered, _ = srp(discover, iface=interface, timeout=listen_s, multi=True, verbose=False)
    except OSError as exc:
        raise MachineError(f"cannot probe {interface}", detail=str(exc), fix="run as root; see: ip link") from exc
    return sorted({_server(answer) for _, answer in answered if answer.haslayer(DHCP)})


def _server(answer: Any) -> str:
    """Who answers: option 54, else the sender."""
    for option in answer["DHCP"].options:
        if isinstance(option, tuple) and option[0] == "server_id":
            return str(option[1])
    return str(answer["IP"].src)
