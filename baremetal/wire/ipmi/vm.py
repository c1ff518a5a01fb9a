"""OpenIPMI's "VM" serial protocol: how QEMU's ipmi-bmc-extern carries KCS messages to a BMC outside.

A message is id, network function, command, data, checksum; bytes A0h, A1h and AAh
are escaped; A0h ends a message, A1h a control command (reset, power: QEMU tells
what the machine did; we need none of them).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from baremetal.wire.ipmi.message import Request, checksum

_END, _CONTROL, _ESCAPE = 0xA0, 0xA1, 0xAA
_ESCAPED = 0x10
_MAX = 300


@dataclass(slots=True)
class Decoder:
    """Bytes in, requests out; `seq` of a request is the id its answer must carry."""

    _buffer: bytearray = field(default_factory=bytearray)
    _escape: bool = False

    def feed(self, data: bytes) -> list[Request]:
        """The requests completed by these bytes; broken ones are dropped."""
        out = []
        for byte in data:
            if byte == _ESCAPE:
                self._escape = True
            elif byte in (_END, _CONTROL):
                request = _parse(bytes(self._buffer)) if byte == _END else None
                self._buffer.clear()
                self._escape = False
                out += [request] if request else []
            elif len(self._buffer) < _MAX:
                self._buffer.append(byte & ~_ESCAPED & 0xFF if self._escape else byte)
                self._escape = False
        return out


def _parse(raw: bytes) -> Request | None:
    if len(raw) < 4 or checksum(raw):
        return None
    return Request(raw[1] >> 2, raw[2], raw[3:-1], raw[1] & 3, seq=raw[0])


def response(request: Request, answer: bytes) -> bytes:
    """The answer on the wire; `answer` is completion code and data."""
    body = bytes((request.seq, (request.netfn | 1) << 2 | request.lun, request.cmd)) + answer
    out = bytearray()
    for byte in body + bytes((checksum(body),)):
        out += bytes((_ESCAPE, byte | _ESCAPED)) if byte in (_END, _CONTROL, _ESCAPE) else bytes((byte,))
    return bytes(out) + bytes((_END,))
