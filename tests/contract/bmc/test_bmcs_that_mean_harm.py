"""A BMC that its last tenant took over: what it answers costs the server little, and other machines nothing."""

import gzip
import json

import pytest

from baremetal.bmc import fru, sdr
from baremetal.bmc.drivers import driver as make
from baremetal.bmc.faults import BmcProtocol
from baremetal.bmc.link import Answer
from baremetal.bmc.quirks import Quirks
from baremetal.bmc.redfishhttp import LARGEST_BODY
from baremetal.bmc.url import BmcUrl

SYSTEM = "/redfish/v1/Systems/1"
KEY = b"a model of server"
TRUE, LIES = (b"CPU Temp",), (b"always cold",)


def packed(document: bytes, encoding: str = "gzip"):
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    return {"body": gzip.compress(document), "headers": headers}


async def system(server, answer):
    """What our driver makes of this answer for the one system."""
    async with server() as (peer, port):
        peer.answers[SYSTEM] = answer
        driver = make(BmcUrl.parse(f"redfish+http://admin@127.0.0.1:{port}/redfish/v1/Systems/1"), "right")
        try:
            return await driver.http.get(SYSTEM)
        finally:
            await driver.close()


async def test_a_packed_answer_is_read(redfish_server):
    assert (await system(redfish_server, packed(b'{"PowerState": "On"}')))["PowerState"] == "On"


HARM = [  # the answer, what is said
    (packed(b" " * (LARGEST_BODY + 1)), "larger than 8 MiB"),
    (packed(b"{}", "br"), "encoded as 'br'"),
    ({"body": b"no gzip", "headers": {"Content-Encoding": "gzip"}}, "cannot be read"),
    ({"body": b'{"a":' * 200_000}, "not JSON"),
    ({"body": json.dumps([1]).encode()}, "not a JSON object"),
]


@pytest.mark.parametrize(("answer", "said"), HARM, ids=[row[1] for row in HARM])
async def test_what_would_cost_memory_is_refused(redfish_server, answer, said):
    with pytest.raises(BmcProtocol, match=said):
        await system(redfish_server, answer)


class Link:
    """Says of its FRU that it holds 64 bytes, and gives none of them."""

    def __init__(self):
        self.asked = 0

    async def command(self, netfn, command, data=b"", lun=0):
        self.asked += 1
        assert self.asked < 50
        return Answer(0, b"\x40\x00\x00" if command == 0x10 else b"\x00\x00")


class Bmc:
    quirks = Quirks()

    def __init__(self):
        self.link = Link()


async def test_a_fru_that_is_never_told_is_not_asked_for_ever():
    assert await fru.read(Bmc(), 0) == {}


def test_what_one_bmc_says_of_its_sensors_is_believed_of_no_other(monkeypatch):
    monkeypatch.setattr(sdr, "_CACHE", {})
    sdr._note(KEY, LIES, "evil")
    assert sdr._known(KEY, "evil") == LIES
    assert sdr._known(KEY, "honest-1") is None
    sdr._note(KEY, TRUE, "honest-1")
    sdr._note(KEY, TRUE, "honest-2")
    assert sdr._known(KEY, "honest-3") is None, "they do not agree: each is asked itself"
    assert sdr._known(KEY, "honest-1") == TRUE


def test_what_two_alike_said_alike_is_not_read_a_third_time(monkeypatch):
    monkeypatch.setattr(sdr, "_CACHE", {})
    for host in ("one", "two"):
        assert sdr._known(KEY, host) is None
        sdr._note(KEY, TRUE, host)
    assert sdr._known(KEY, "three") == TRUE


def test_made_up_models_fill_no_memory(monkeypatch):
    monkeypatch.setattr(sdr, "_CACHE", {})
    for number in range(1000):
        sdr._note(b"%d" % number, TRUE, "evil")
        sdr._note(KEY[:1], (b"%d" % number,), "evil")
    assert sum(len(versions) for versions in sdr._CACHE.values()) <= sdr.MOST_KEYS * sdr.MOST_VERSIONS
