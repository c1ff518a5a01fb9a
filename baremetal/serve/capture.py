"""Packets from an interface or a pcap file, for `baremetal diagnose`. scapy reads them; nothing is sent."""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baremetal.errors import MachineError, UsageError
from baremetal.wire.story import Frame

BOOT_PORTS = "udp port 67 or udp port 68 or udp port 69 or udp port 4011 or tcp port 8080"
QUEUED_S = 2.0  # for what has come already when Ctrl-C does


@dataclass(frozen=True)
class Neighbour:
    """The switch port at the other end of a cable, as it says by LLDP."""

    interface: str
    switch: str
    port: str
    description: str = ""


def from_file(path: Path) -> list[Frame]:
    """Frames of a pcap or pcapng file; UsageError when it is none."""
    _quiet()
    from scapy.error import Scapy_Exception
    from scapy.utils import PcapReader

    try:
        with PcapReader(str(path)) as reader:
            return list(frames(reader))
    except (OSError, Scapy_Exception, EOFError, ValueError) as exc:
        raise UsageError(
            f"cannot read {path} as a capture", detail=str(exc), fix="a pcap file, as tcpdump -w writes"
        ) from exc


def from_interface(
    interface: str, seconds: float, save: Path | None = None, listening: Callable[[], None] = lambda: None
) -> list[Frame]:
    """What passes within `seconds`, or before Ctrl-C; `listening()` is called when nothing is missed any more.

    TFTP data come from high ports, so all UDP of one interface is looked at.
    """
    if save is not None:
        save.open("ab").close()  # where it cannot be kept, nobody waits for it
    _quiet()
    from scapy.arch.linux import L2ListenSocket
    from scapy.utils import wrpcap

    try:
        sock = L2ListenSocket(iface=interface)
    except OSError as exc:
        raise MachineError(f"cannot listen on {interface}", detail=str(exc), fix="run as root; see: ip link") from exc
    packets: list[Any] = []
    try:
        listening()
        with contextlib.suppress(KeyboardInterrupt):
            _receive(sock, packets, seconds)
        _receive(sock, packets, QUEUED_S, patient=False)
    finally:
        sock.close()
    if save is not None:
        wrpcap(str(save), packets)
    return list(frames(packets))


def _receive(sock: Any, packets: list[Any], seconds: float, *, patient: bool = True) -> None:
    """Collect packets for so long; impatient: only what has come already."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if sock.select([sock], left if patient else 0):
            packet = sock.recv(1 << 16)
            if packet is not None:
                packets.append(packet)
        elif not patient:
            return


def frames(packets: Iterable[Any]) -> Iterator[Frame]:
    """scapy's packets as ours; what is neither UDP nor TCP over IPv4 and Ethernet is passed over."""
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import Ether

    for packet in packets:
        if Ether not in packet or IP not in packet or not (UDP in packet or TCP in packet):
            continue
        layer = packet[UDP] if UDP in packet else packet[TCP]
        yield Frame(
            time=float(packet.time),
            src_mac=packet[Ether].src,
            dst_mac=packet[Ether].dst,
            src=packet[IP].src,
            dst=packet[IP].dst,
            protocol="udp" if UDP in packet else "tcp",
            sport=int(layer.sport),
            dport=int(layer.dport),
            payload=bytes(layer.payload),
        )


def neighbours(interface: str, seconds: float = 35.0) -> list[Neighbour]:
    """Switch ports that name themselves on this interface; LLDP is sent every 30 s."""
    _quiet()
    from scapy.contrib.lldp import LLDPDU
    from scapy.sendrecv import sniff

    def ours(packet: Any) -> bool:
        return LLDPDU in packet

    try:
        heard = sniff(iface=interface, timeout=seconds, lfilter=ours, stop_filter=ours, store=True)
    except OSError as exc:
        raise MachineError(f"cannot listen on {interface}", detail=str(exc), fix="run as root; see: ip link") from exc
    return list({neighbour(interface, packet) for packet in heard})


def neighbour(interface: str, packet: Any) -> Neighbour:
    """One LLDP frame."""
    from scapy.contrib import lldp

    def text(layer: Any, field: str) -> str:
        value = getattr(packet[layer], field) if layer in packet else b""
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)

    name = text(lldp.LLDPDUSystemName, "system_name") or text(lldp.LLDPDUChassisID, "id")
    return Neighbour(interface, name, text(lldp.LLDPDUPortID, "id"), text(lldp.LLDPDUPortDescription, "description"))


def _quiet() -> None:
    """scapy warns about interfaces we do not use; and it knows Ethernet only once that layer is imported."""
    logging.getLogger("scapy").setLevel(logging.ERROR)
    importlib.import_module("scapy.layers.inet")
