"""Bytes <-> TFTP messages. Opens no socket."""

from __future__ import annotations

from dataclasses import dataclass, field

from baremetal.errors import BaremetalError

RRQ, WRQ, DATA, ACK, ERROR, OACK = range(1, 7)
NOT_DEFINED, NOT_FOUND, ACCESS, DISK_FULL, ILLEGAL, UNKNOWN_TID, EXISTS, NO_USER, BAD_OPTION = range(9)
LONGEST_NAME = 255
LONGEST_REQUEST = 512  # RFC 2347: a request is at most 512 bytes


class BadPacket(BaremetalError):
    """These bytes are no TFTP request. `answer` is the error code the sender is told, None: nothing."""

    code = "tftp-packet"

    def __init__(self, brief: str, answer: int | None = ILLEGAL) -> None:
        super().__init__(brief)
        self.answer = answer


@dataclass(frozen=True)
class Request:
    """A read request. Option names are lower case (they compare without case, RFC 2347)."""

    name: str
    mode: str
    options: dict[str, str] = field(default_factory=dict)


def parse_request(data: bytes) -> Request:
    """Any bytes give a read request or BadPacket."""
    if len(data) < 4 or data[0] != 0:
        raise BadPacket(f"{len(data)} bytes that are no TFTP request", None)
    if data[1] == WRQ:
        raise BadPacket("writing is not allowed", ACCESS)
    if data[1] != RRQ:
        raise BadPacket(f"opcode {data[1]} where a request is due", None)
    if len(data) > LONGEST_REQUEST * 2:
        raise BadPacket(f"a request of {len(data)} bytes")
    if data[-1] != 0:
        raise BadPacket("the request does not end with a zero byte")
    parts = data[2:-1].split(b"\0")
    if len(parts) < 2:
        raise BadPacket("the request names no mode")
    mode = parts[1].decode("latin-1").lower()
    if mode not in ("octet", "netascii"):
        raise BadPacket(f"mode {mode[:20]!r} is not served: octet and netascii are")
    return Request(file_name(parts[0]), mode, _options(parts[2:]))


def file_name(raw: bytes) -> str:
    """The name asked for, as a path of the virtual tree: no leading slash, no backslash, no way out.

    Firmware asks with and without a leading slash, and some with backslashes.
    """
    try:
        text = raw.decode("utf-8").replace("\\", "/")
    except UnicodeDecodeError:
        raise BadPacket("the name is no UTF-8", NOT_FOUND) from None
    parts = [p for p in text.split("/") if p not in ("", ".")]
    if not parts or len(text) > LONGEST_NAME or not text.isprintable():
        raise BadPacket("no usable file name", NOT_FOUND)
    if ".." in parts:
        raise BadPacket(f"{text!r} leads out of the tree", ACCESS)
    return "/".join(parts)


def error(code: int, text: str) -> bytes:
    """ERROR packet."""
    return bytes((0, ERROR, 0, code)) + text.encode("ascii", "replace")[:120] + b"\0"


def oack(options: dict[str, str]) -> bytes:
    """Option acknowledgement (RFC 2347)."""
    return b"\0\x06" + b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in options.items())


def ack(block: int) -> bytes:
    """ACK packet, as clients send it."""
    return b"\0\x04" + (block & 0xFFFF).to_bytes(2, "big")


def request(name: str, mode: str = "octet", options: dict[str, str] | None = None) -> bytes:
    """Read request, as clients send it."""
    pairs = "".join(f"{k}\0{v}\0" for k, v in (options or {}).items())
    return b"\0\x01" + f"{name}\0{mode}\0{pairs}".encode()


def _options(parts: list[bytes]) -> dict[str, str]:
    """Name/value pairs; an odd one out at the end is ignored, of a repeated one the first counts."""
    options: dict[str, str] = {}
    for name, value in zip(parts[::2], parts[1::2], strict=False):
        options.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return options
