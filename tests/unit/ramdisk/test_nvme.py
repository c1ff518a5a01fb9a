"""NVMe pages: what the drive can erase and how worn it is."""

from __future__ import annotations

import struct

import pytest

from baremetal.agents import nvme


@pytest.mark.parametrize(
    ("commands", "attributes", "setting"),
    [(0x2, 0x4, nvme.CRYPTO), (0x6, 0x0, nvme.USER_DATA), (0x4, 0x4, None)],
)
def test_erase_setting(commands: int, attributes: int, setting: int | None) -> None:
    page = bytearray(4096)
    struct.pack_into("<H", page, 256, commands)
    page[524] = attributes
    assert nvme.erase_setting(bytes(page)) == setting


def test_health() -> None:
    log = bytearray(512)
    log[0], log[3], log[5] = 0, 100, 7
    struct.pack_into("<H", log, 1, 273 + 41)
    log[128] = 200
    found = nvme.parse_health(bytes(log))
    assert (found["temperature_c"], found["wear_percent"], found["power_on_hours"]) == (41, 7, 200)


def test_a_drive_that_does_not_answer_has_no_health() -> None:
    assert nvme.health("/dev/null") is None
