"""Who is at the other end of each cable: LLDP frames, gathered by the kernel while we do other things.

One raw socket per NIC is opened when the agent starts; switches speak every
30 s. Nothing is sent. Frames are foreign data: bounded, never interpreted
beyond type and length here (IEEE 802.1AB §8.4).
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Dict, List, Tuple

ETHERTYPE = 0x88CC
MULTICAST = bytes.fromhex("0180c200000e")
MAX_TLVS = 128
MAX_NICS = 64
_ADD_MEMBERSHIP, _MULTICAST = 1, 0  # PACKET_ADD_MEMBERSHIP, PACKET_MR_MULTICAST, linux/if_packet.h
Tlv = Tuple[int, str]


class Listener:
    """Open sockets on the given interfaces; an interface that refuses is left out."""

    def __init__(self, names: List[str]) -> None:
        self._sockets: Dict[str, socket.socket] = {}
        for name in names[:MAX_NICS]:
            try:
                self._sockets[name] = _open(name)
            except OSError:
                continue

    def heard(self, wait_s: float = 0.0) -> Dict[str, List[Tlv]]:
        """The last frame of each interface as [(type, value in hex)]; waits until all have one, at most `wait_s`."""
        found: Dict[str, List[Tlv]] = {}
        until = time.monotonic() + wait_s
        while True:
            left = max(0.0, until - time.monotonic())
            missing = [s for n, s in self._sockets.items() if n not in found]
            ready, _, _ = select.select(missing, [], [], left) if missing else ([], [], [])
            for name, sock in self._sockets.items():
                if sock in ready:
                    self._drain(name, sock, found)
            if not ready or left == 0.0:  # who floods us with rubbish does not hold us up
                return found

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    def _drain(self, name: str, sock: socket.socket, found: Dict[str, List[Tlv]]) -> None:
        for _ in range(64):
            try:
                frame = sock.recv(9000)
            except OSError:
                return
            tlvs = parse(frame)
            if tlvs:
                found[name] = tlvs


def parse(frame: bytes) -> List[Tlv]:
    """TLVs of an Ethernet frame, [] when it is no LLDP or does not add up."""
    if len(frame) < 14 or struct.unpack_from(">H", frame, 12)[0] != ETHERTYPE:
        return []
    tlvs: List[Tlv] = []
    at = 14
    while at + 2 <= len(frame) and len(tlvs) < MAX_TLVS:
        head = struct.unpack_from(">H", frame, at)[0]
        kind, length = head >> 9, head & 0x1FF
        if at + 2 + length > len(frame):
            return []
        if kind == 0:
            break
        tlvs.append((kind, frame[at + 2 : at + 2 + length].hex()))
        at += 2 + length
    return tlvs


def readable(tlvs: List[Tlv]) -> Dict[str, str]:
    """The TLVs a person asks for: switch, port, name, description (IEEE 802.1AB §8.5)."""
    out: Dict[str, str] = {}
    for kind, text in tlvs:
        raw = bytes.fromhex(text)
        if kind in (1, 2) and raw:
            out["chassis_id" if kind == 1 else "port_id"] = _identifier(kind, raw)
        elif kind in (4, 5, 6):
            out[{4: "port_description", 5: "system_name", 6: "system_description"}[kind]] = _printable(raw)
        elif kind == 127 and raw[:4] == b"\x00\x80\xc2\x01" and len(raw) == 6:  # 802.1 port VLAN id
            out["vlan"] = str(int.from_bytes(raw[4:], "big"))
    return out


def _identifier(kind: int, raw: bytes) -> str:
    """A chassis or port id: subtype 4 (chassis) and 3 (port) are MACs, the rest is text."""
    if raw[0] == (4 if kind == 1 else 3) and len(raw) == 7:
        return ":".join(f"{b:02x}" for b in raw[1:])
    return _printable(raw[1:])


def _printable(raw: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in raw.decode("utf-8", "replace"))[:255]


def _open(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    try:
        sock.bind((name, ETHERTYPE))
        request = struct.pack("IHH8s", socket.if_nametoindex(name), _MULTICAST, 6, MULTICAST)
        sock.setsockopt(263, _ADD_MEMBERSHIP, request)  # SOL_PACKET
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
