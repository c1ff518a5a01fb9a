"""UDP in IPv4 in Ethernet, as bytes: for replies to a client that has no address yet.

Such a reply goes to the client's hardware address (RFC 2131 §4.1); the kernel
could only send it after an ARP answer that the client cannot give.
"""

from __future__ import annotations

import struct
from array import array

_IP_UDP = struct.Struct("!BBHHHBBH4s4sHHHH")
_LITTLE = array("H", b"\x01\x00")[0] == 1


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071), to be stored big-endian."""
    if len(data) & 1:
        data += b"\0"
    total = sum(array("H", data))  # order of bytes does not matter until the end (RFC 1071 §2 B)
    total = (total >> 16) + (total & 0xFFFF)
    total = (total >> 16) + (total & 0xFFFF)
    total = ~total & 0xFFFF
    return ((total & 0xFF) << 8) | (total >> 8) if _LITTLE else total


def udp_frame(
    dst_mac: bytes, src_mac: bytes, src: bytes, dst: bytes, src_port: int, dst_port: int, payload: bytes
) -> bytes:
    """One Ethernet frame; addresses are packed."""
    udp_length = 8 + len(payload)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + udp_length, 0, 0x4000, 64, 17, 0, src, dst)
    pseudo = struct.pack("!4s4sHHHHHH", src, dst, 17, udp_length, src_port, dst_port, udp_length, 0)
    udp_sum = checksum(pseudo + payload) or 0xFFFF
    return b"".join(
        (
            dst_mac,
            src_mac,
            b"\x08\x00",
            ip[:10],
            checksum(ip).to_bytes(2, "big"),
            ip[12:],
            struct.pack("!HHHH", src_port, dst_port, udp_length, udp_sum),
            payload,
        )
    )
