"""Coverage-guided fuzzing of everything that reads a BMC's (or its client's) bytes: a value or a clean error.

The gate replays the corpus (tests/data/fuzz/<parser>/) and mutates it for a moment; `BAREMETAL_FUZZ_S=600 pytest
tests/fuzz/bmc` goes on for ten minutes a parser and adds inputs that reach lines nothing in the corpus reached.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from baremetal.bmc import fru, guid, presession, rakp, redfishlog, redfishsays, redfishsensors, sdr, sel, wirejson
from baremetal.bmc.sol import SolWindow
from baremetal.errors import BaremetalError
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.wire.ipmi import crypto, rmcp
from baremetal.wire.ipmi.server import Server
from baremetal.wire.ipmi.vm import Decoder

CORPUS = Path(__file__).parents[2] / "data" / "fuzz"
WATCHED = (str(Path(fru.__file__).parent), str(Path(rmcp.__file__).parent))
FOR_S = float(os.environ.get("BAREMETAL_FUZZ_S", "0.4"))
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


def lines_of(parser: Callable[[bytes], None], data: bytes) -> set[tuple[str, int]]:
    """Which of our lines this input reaches; anything but a clean error is raised on."""
    hit: set[tuple[str, int]] = set()

    def trace(frame: FrameType, _event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        hit.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parser(data)
    except BaremetalError:
        pass
    finally:
        sys.settrace(before)
    return hit


def mutate(rnd: random.Random, data: bytes) -> bytes:
    raw = bytearray(data or b"\0")
    for _ in range(rnd.choice((1, 1, 2, 4, 16))):
        at = rnd.randrange(len(raw) + 1)
        match rnd.randrange(5):
            case 0 if at < len(raw):
                raw[at] = rnd.choice((0, 1, 127, 128, 255, rnd.randrange(256)))
            case 1:
                raw[at:at] = rnd.choice(INTERESTING)
            case 2:
                del raw[at : at + rnd.choice((1, 4, 100))]
            case 3:
                raw[at:at] = raw[at : at + rnd.randrange(40)]
            case _:
                raw[at:at] = rnd.randbytes(rnd.randrange(6))
    return bytes(raw[:3000])


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_any_bytes_of_a_bmc(name: str) -> None:
    parser, folder = PARSERS[name], CORPUS / name
    corpus = [f.read_bytes() for f in sorted(folder.glob("*"))]
    assert corpus, f"{folder} is empty"
    known: set[tuple[str, int]] = set()
    for data in corpus:
        known |= lines_of(parser, data)
    rnd, end = random.Random(os.environ.get("BAREMETAL_FUZZ_SEED", name)), time.monotonic() + FOR_S
    while time.monotonic() < end:
        data = mutate(rnd, rnd.choice(corpus))
        new = lines_of(parser, data) - known
        if new:
            known |= new
            corpus.append(data)
            if FOR_S > 5:
                where = min(new)
                digest = hashlib.sha256(data).hexdigest()[:8]
                (folder / f"{Path(where[0]).stem}-{where[1]}-{digest}").write_bytes(data)
