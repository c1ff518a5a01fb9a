"""UDP in IPv4 in Ethernet, as bytes: for replies to a client that has no address yet.

Such a reply goes to the client's hardware address (RFC 2131 §4.1); the kernel
could only send it after an ARP answer that the client cannot give. Broadcasts
leave the same way: a frame costs half of what the UDP socket's way costs.
"""

from __future__ import annotations

import struct

BROADCAST_MAC = b"\xff\xff\xff\xff\xff\xff"
BROADCAST_IP = b"\xff\xff\xff\xff"


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071), to be stored big-endian; `data` has an even length.

    The one's complement sum of 16-bit words is the remainder of the whole as
    one number divided by 65535, since 65536 leaves remainder 1.
    """
    rest = int.from_bytes(data, "big") % 0xFFFF
    return 0xFFFF - rest if rest else 0


class Framer:
    """Makes frames from one sender: its MAC, its address, its port, the clients' port."""

    def __init__(self, mac: bytes, address: bytes, port: int, client_port: int) -> None:
        self._mac = mac
        self._address = address
        self._ports = struct.pack("!HH", port, client_port)
        self._broadcasts: dict[int, tuple[bytes, int]] = {}

    def frame(self, mac: bytes, address: bytes, payload: bytes) -> bytes:
        """One Ethernet frame that carries `payload` to `mac` and `address`."""
        return _with(payload, *self._head(mac, address, len(payload)))

    def broadcast(self, payload: bytes) -> bytes:
        """One Ethernet frame to everybody: its head depends on the payload's length only."""
        size = len(payload)
        head = self._broadcasts.get(size)
        if head is None:
            head = self._broadcasts[size] = self._head(BROADCAST_MAC, BROADCAST_IP, size)
        return _with(payload, *head)

    def _head(self, mac: bytes, address: bytes, size: int) -> tuple[bytes, int]:
        """All before the UDP checksum of a frame with `size` bytes of payload; what that covers of it, as a number."""
        udp = self._ports + (size + 8).to_bytes(2, "big")
        ends = self._address + address
        ip = struct.pack("!BBHHHBBH", 0x45, 0, size + 28, 0, 0x4000, 64, 17, 0)
        ip = ip[:10] + checksum(ip + ends).to_bytes(2, "big") + ends
        covered = int.from_bytes(ends + struct.pack("!HH", 17, size + 8) + udp, "big") % 0xFFFF
        return b"".join((mac, self._mac, b"\x08\x00", ip, udp)), covered


def _with(payload: bytes, head: bytes, covered: int) -> bytes:
    """The frame: head, UDP checksum, payload. A payload of odd length counts as if a zero followed."""
    number = int.from_bytes(payload, "big")
    rest = ((number << 8 if len(payload) & 1 else number) + covered) % 0xFFFF
    # A checksum of 0 would mean "none" (RFC 768); 0xFFFF is the same number.
    return b"".join((head, (0xFFFF - rest).to_bytes(2, "big"), payload))
