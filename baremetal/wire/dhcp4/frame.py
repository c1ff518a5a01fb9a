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
        self._heads: dict[int, tuple[bytes, bytes, bytes]] = {}

    def frame(self, mac: bytes, address: bytes, payload: bytes) -> bytes:
        """One Ethernet frame that carries `payload` to `mac` and `address`."""
        size = len(payload)
        head = self._heads.get(size) or self._head(size)
        ip = b"".join((head[0], self._address, address))
        ip_sum = checksum(ip).to_bytes(2, "big")
        udp_sum = checksum(b"".join((self._address, address, head[1], payload, b"\0" if size & 1 else b"")))
        return b"".join(
            (
                mac,
                self._mac,
                b"\x08\x00",
                head[0][:10],
                ip_sum,
                self._address,
                address,
                head[2],
                (udp_sum or 0xFFFF).to_bytes(2, "big"),
                payload,
            )
        )

    def _head(self, size: int) -> tuple[bytes, bytes, bytes]:
        """For a payload length: IP header up to the addresses, what the UDP checksum covers beside it, UDP header."""
        length = size + 8
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 17, 0)
        covered = struct.pack("!HH", 17, length) + self._ports + struct.pack("!H", length)
        made = self._heads[size] = (ip, covered, self._ports + struct.pack("!H", length))
        return made
