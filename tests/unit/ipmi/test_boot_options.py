"""Boot flags: five bytes kept, one-shot used up, persistent kept, valid for 60 s unless told otherwise."""

from __future__ import annotations

import pytest

from baremetal.wire.ipmi.bootopts import BootOptions
from baremetal.wire.ipmi.codes import BootDevice

T = 1000.0
FLAGS = [  # five bytes           device            once   uefi
    ("80 04 00 00 00", BootDevice.PXE, True, False),
    ("a0 04 00 00 00", BootDevice.PXE, True, True),
    ("c0 08 00 00 00", BootDevice.DISK, False, False),
    ("e0 08 00 00 00", BootDevice.DISK, False, True),
    ("e0 24 00 00 00", BootDevice.REMOTE_MEDIA, False, True),  # Supermicro's "UEFI disk"
    ("80 18 00 00 00", BootDevice.BIOS, True, False),
    ("00 04 00 00 00", BootDevice.NONE, True, False),
    ("80 28 00 00 00", BootDevice.NONE, True, False),  # a reserved selector
]


@pytest.mark.parametrize(("raw", "device", "once", "uefi"), FLAGS)
def test_flags(raw, device, once, uefi):
    options = BootOptions()
    options.set(5, bytes.fromhex(raw), T)
    assert options.get(5, T) == bytes.fromhex(raw)
    used = options.consume(T)
    assert (used.device, used.once, used.uefi) == (device, once, uefi)
    assert options.consume(T).device is (BootDevice.NONE if once else device)


@pytest.mark.parametrize(
    ("param3", "commanded", "after_s", "valid"),
    [
        (0x00, False, 59, True),
        (0x00, False, 60, False),
        (0x00, True, 600, True),  # a chassis control command came in time
        (0x08, False, 600, True),  # parameter 3: do not clear by timer
        (0x01, False, 60, False),
    ],
)
def test_the_sixty_seconds(param3, commanded, after_s, valid):
    options = BootOptions()
    options.set(3, bytes((param3,)), T)
    options.set(5, b"\x80\x04\0\0\0", T)
    if commanded:
        options.commanded(T + 1)
    assert bool(options.get(5, T + after_s)[0] & 0x80) is valid
    assert options.get(5, T + after_s)[1] == 0x04, "the other bytes stay"


def test_command_after_the_timer_does_not_revive():
    options = BootOptions()
    options.set(5, b"\x80\x04\0\0\0", T)
    options.commanded(T + 61)
    assert options.consume(T + 62).device is BootDevice.NONE


def test_acknowledge_parameter_is_masked():
    options = BootOptions()
    options.set(4, b"\x01\x01", T)
    options.set(4, b"\x02\x00", T)
    assert options.get(4, T) == b"\x00\x01"


@pytest.mark.parametrize(
    ("quirk", "kept"),
    [("boot_dropped", "0000000000"), ("boot_persistent_lost", "a004000000"), ("efi_lost", "c004000000")],
)
def test_firmware_that_loses_flags(bmc, connect, quirk, kept):
    setattr(bmc.quirks, quirk, True)
    client = connect()
    assert client.command(0, 8, bytes.fromhex("05e004000000")) == b"\0"
    assert client.command(0, 9, b"\5\0\0")[3:] == bytes.fromhex(kept)


def test_short_and_empty_writes(bmc, connect):
    client = connect()
    assert client.command(0, 8, b"\x05\x80\x04") == b"\0"
    assert client.command(0, 9, b"\5\0\0") == bytes.fromhex("00 01 05 80 04 00 00 00")
    assert client.command(0, 8, b"\x85") == b"\0"  # mark invalid, data as it was
    assert client.command(0, 9, b"\5\0\0") == bytes.fromhex("00 01 85 80 04 00 00 00")
