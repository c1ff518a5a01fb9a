"""Coverage-guided fuzzing of everything that reads a BMC's (or its client's) bytes: a value or a clean error.

How the fuzzer works: conftest.py, one folder up.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from baremetal.bmc import fru, guid, presession, rakp, redfishlog, redfishsays, redfishsensors, sdr, sel, wirejson
from baremetal.bmc.sol import SolWindow
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.wire.ipmi import crypto, rmcp
from baremetal.wire.ipmi.server import Server
from baremetal.wire.ipmi.vm import Decoder

CORPUS = Path(__file__).parents[2] / "data" / "fuzz"
WATCHED = (str(Path(fru.__file__).parent), str(Path(rmcp.__file__).parent))
INTERESTING = [
    b"\0",
    b"\xff",
    b"\x80",
    rmcp.ping(1)[:4],
    b"\x06\xc0",
    b"\x06\0\xff\x07\x06\x10",
    b'{"@":',
    b"[[",
    b"1e999",
]


def datagrams(data: bytes) -> Iterator[bytes]:
    """Pieces by a length byte each: one input is a whole conversation."""
    while data:
        size = data[0] * 2
        yield data[1 : 1 + size]
        data = data[1 + size :]


def ask_our_bmc(data: bytes) -> None:
    server = Server(diskless_bmc(MemoryChassis()), random=random.Random(7).randbytes)
    for number, datagram in enumerate(datagrams(data)):
        for reply in server.receive(datagram, 100.0 + number):
            rmcp.parse(reply)


def hear_a_bmc(data: bytes) -> None:
    rmcp.parse(data)
    for command in (0x38, 0x54, 0x37):
        if (found := presession.answer(data, command)) is not None:
            presession.capabilities(found.data)
            presession.suite_ids(found.data)
            guid.smbios_text(found.data.ljust(16, b"\0")[:16])


def log_in_to_a_bmc(data: bytes) -> None:
    hand = rakp.Handshake(b"admin", b"secret", None, crypto.SUITES[17], 4, 8)
    hand.our_id = 0x01020304
    for check, datagram in zip((hand.open_response, hand.rakp2, hand.rakp4), datagrams(data), strict=False):
        packet = rmcp.parse(datagram)
        if isinstance(packet, rmcp.Packet20):
            with contextlib.suppress(rakp.Reject):
                check(packet)
    whole = rmcp.parse(data)
    if isinstance(whole, rmcp.Packet20):
        rakp.Keys(crypto.SUITES[17], 1, 1, b"k" * 32, b"a" * 16, b"").open(whole)


def read_fru(data: bytes) -> None:
    fru.decode(data)


def read_sdr_sel(data: bytes) -> None:
    sensor = sdr.decode(data)
    if sensor is not None:
        sdr.interpret(sensor, data[-4:])
        sensor.thresholds()
    sel.decode(data.ljust(16, b"\0")[:16])


def read_serial_line(data: bytes) -> None:
    window = SolWindow(32)
    window.put(b"abc" * 30)
    for packet in datagrams(data):
        window.receive(packet)
        window.packet()


def read_in_band(data: bytes) -> None:
    Decoder().feed(data)


def read_redfish(data: bytes) -> None:
    redfishsays.messages(data)
    try:
        doc = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(doc, dict):
        redfishlog.record(doc)
        redfishsensors._sensor(doc)
        redfishsensors._row(doc, "Temperature", "°C", ("ReadingCelsius",))
    with contextlib.suppress(ValueError, TypeError):
        wirejson.unpack(doc)


PARSERS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (
        ask_our_bmc,
        hear_a_bmc,
        log_in_to_a_bmc,
        read_fru,
        read_sdr_sel,
        read_serial_line,
        read_in_band,
        read_redfish,
    )
}


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_any_bytes_of_a_bmc(name: str, climb: Any, mutation: Any) -> None:
    climb(PARSERS[name], CORPUS / name, WATCHED, mutation(INTERESTING, 3000))
