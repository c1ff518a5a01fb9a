"""What a BMC tells everybody before any login: capabilities, cipher suites, its GUID (IPMI 2.0 §22.13 to §22.15)."""

from __future__ import annotations

from dataclasses import dataclass

from baremetal.bmc.link import Answer
from baremetal.bmc.udp import Conversation, Silence
from baremetal.wire.ipmi import message, rmcp

APP = 6
ADMINISTRATOR = 4


@dataclass(frozen=True)
class Capabilities:
    """Get Channel Authentication Capabilities, in words.

    `auth15`: IPMI 1.5 authentication types offered. `kg`: a K_g is set (two-key
    login). `anonymous`: somebody may log in without name and password;
    `null_users`: accounts without a name are enabled.
    """

    ipmi20: bool
    auth15: tuple[str, ...]
    kg: bool
    anonymous: bool
    null_users: bool


def request(command: int, data: bytes, seq: int = 0) -> bytes:
    """A datagram with one App command outside any session."""
    return rmcp.packet15(message.build_request(message.Request(APP, command, data, seq=seq)))


def answer(datagram: bytes, command: int) -> Answer | None:
    """The answer to request(); None when it is something else or damaged."""
    packet = rmcp.parse(datagram)
    if not isinstance(packet, rmcp.Packet15):
        return None
    body = packet.message
    if len(body) < 8 or body[1] >> 2 != APP | 1 or body[5] != command:
        return None
    if message.checksum(body[:2]) != body[2] or message.checksum(body[3:-1]) != body[-1]:
        return None
    return Answer(body[6], bytes(body[7:-1]))


def auth_request() -> bytes:
    """Asks for the capabilities of the channel we come by, with the IPMI 2.0 bit."""
    return request(0x38, bytes((0x8E, ADMINISTRATOR)))


def capabilities(data: bytes) -> Capabilities | None:
    """Decodes the data of the answer."""
    if len(data) < 4:
        return None
    names = ((0, "none"), (1, "md2"), (2, "md5"), (4, "password"), (5, "oem"))
    return Capabilities(
        ipmi20=bool(data[1] & 0x80 and data[3] & 0x02),
        auth15=tuple(name for bit, name in names if data[1] >> bit & 1),
        kg=bool(data[2] & 0x20),
        anonymous=bool(data[2] & 0x01),
        null_users=bool(data[2] & 0x02),
    )


async def ask(talk: Conversation, command: int, data: bytes, within_s: float) -> Answer | None:
    """One command outside a session; None when the BMC keeps silent."""
    try:
        return await talk.ask(lambda: request(command, data), lambda datagram: answer(datagram, command), within_s)
    except Silence:
        return None


async def cipher_suites(talk: Conversation, within_s: float) -> tuple[int, ...] | None:
    """Ids of the suites the BMC offers for IPMI payloads; None when it does not tell."""
    records = b""
    for index in range(16):
        got = await ask(talk, 0x54, bytes((0x0E, 0, 0x80 | index)), within_s)
        if got is None or got.code:
            return None if index == 0 else suite_ids(records)
        records += got.data[1:]
        if len(got.data) < 17:
            break
    return suite_ids(records)


def suite_ids(records: bytes) -> tuple[int, ...]:
    """Ids in a run of cipher suite records (table 22-18)."""
    found: list[int] = []
    at = 0
    while at < len(records):
        start = records[at]
        if start not in (0xC0, 0xC1) or at + 1 >= len(records):
            at += 1
            continue
        found.append(records[at + 1])
        at += 2 if start == 0xC0 else 5
        while at < len(records) and records[at] not in (0xC0, 0xC1):
            at += 1
    return tuple(dict.fromkeys(found))


async def system_guid(talk: Conversation, within_s: float) -> bytes | None:
    """Get System GUID, where the BMC answers it without a login."""
    got = await ask(talk, 0x37, b"", within_s)
    return got.data[:16] if got and got.code == 0 and len(got.data) >= 16 else None
