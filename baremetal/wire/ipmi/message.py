"""The IPMI message inside a packet (§13.8): addresses, network function, command, checksums."""

from __future__ import annotations

from dataclasses import dataclass

BMC_ADDRESS = 0x20
CONSOLE_ADDRESS = 0x81


@dataclass(frozen=True, slots=True)
class Request:
    """A command to the BMC. `lun` is the responder's; `seq` returns in the response."""

    netfn: int
    cmd: int
    data: bytes
    lun: int = 0
    address: int = BMC_ADDRESS
    from_address: int = CONSOLE_ADDRESS
    from_lun: int = 0
    seq: int = 0


def checksum(data: bytes) -> int:
    """Two's complement of the sum, so that data and checksum add to zero modulo 256."""
    return -sum(data) & 0xFF


def parse_request(data: bytes) -> Request | None:
    """The request, or None when it is too short, a response, or a checksum is wrong."""
    if len(data) < 7 or checksum(data[:2]) != data[2] or checksum(data[3:-1]) != data[-1]:
        return None
    netfn = data[1] >> 2
    if netfn & 1:
        return None
    return Request(netfn, data[5], data[6:-1], data[1] & 3, data[0], data[3], data[4] & 3, data[4] >> 2)


def build_request(request: Request) -> bytes:
    """The request as a client sends it."""
    head = bytes((request.address, request.netfn << 2 | request.lun))
    body = bytes((request.from_address, request.seq << 2 | request.from_lun, request.cmd)) + request.data
    return head + bytes((checksum(head),)) + body + bytes((checksum(body),))


def build_response(request: Request, answer: bytes) -> bytes:
    """The response to `request`; `answer` is completion code and data."""
    head = bytes((request.from_address, (request.netfn | 1) << 2 | request.from_lun))
    body = bytes((request.address, request.seq << 2 | request.lun, request.cmd)) + answer
    return head + bytes((checksum(head),)) + body + bytes((checksum(body),))
