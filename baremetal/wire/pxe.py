"""Turns DHCP options into a Client: which firmware asks, by which loader. Opens no socket; serve/dhcp.py does.

What real clients send is in tests/data/boot/*.pcap, named by firmware.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from baremetal.model.boot import Arch, Client, Loader

# IANA "Processor Architecture Types". RFC 4578 and IANA disagree on 7 and 9:
# x86-64 firmware of both kinds exists, real EBC firmware does not, so both are x86-64.
ARCHES = {
    0: Arch.BIOS,
    6: Arch.UEFI_IA32,
    7: Arch.UEFI_X64,
    9: Arch.UEFI_X64,
    10: Arch.UEFI_ARM32,
    11: Arch.UEFI_ARM64,
    15: Arch.UEFI_IA32,  # HTTP boot from here on
    16: Arch.UEFI_X64,
    17: Arch.UEFI_EBC,
    18: Arch.UEFI_ARM32,
    19: Arch.UEFI_ARM64,
}
HTTP_ARCHES = frozenset((15, 16, 17, 18, 19))
# Boards that were never given a UUID carry one of these.
_NOBODY = frozenset(
    (
        b"\0" * 16,
        b"\xff" * 16,
        bytes.fromhex("03000200040005000006000700080009"),
        bytes.fromhex("12345678123412341234123456789012"),
    )
)
_CLASS_ARCH = re.compile(rb"(?:PXEClient|HTTPClient):Arch:(\d{1,5})")


def client(options: Mapping[int, bytes], mac: str) -> Client:
    """Who asks, from the options of its packet."""
    arch, loader = classify(options)
    return Client(mac=mac, arch=arch, loader=loader, uuid=uuid_text(options.get(97, b"")))


def classify(options: Mapping[int, bytes]) -> tuple[Arch, Loader]:
    """Firmware and loader; (UNKNOWN, NONE) when it is no boot client."""
    vendor = options.get(60, b"")
    codes = arch_codes(options)
    arch = next((ARCHES[c] for c in codes if c in ARCHES), Arch.UNKNOWN)
    if is_ipxe(options):
        return arch, Loader.IPXE
    if vendor.startswith(b"HTTPClient") or (not vendor and codes and codes[0] in HTTP_ARCHES):
        return arch, Loader.HTTP
    if codes or vendor.startswith(b"PXEClient"):
        return arch, Loader.FIRMWARE
    return Arch.UNKNOWN, Loader.NONE


def arch_codes(options: Mapping[int, bytes]) -> list[int]:
    """Option 93 is a list (RFC 4578 §2.1): the first one we know decides.

    ROMs without option 93 say it in the class ("PXEClient:Arch:00000:…").
    """
    raw = options.get(93, b"")
    if len(raw) >= 2:
        return [raw[i] << 8 | raw[i + 1] for i in range(0, len(raw) - 1, 2)]
    named = _CLASS_ARCH.match(options.get(60, b""))
    return [int(named[1])] if named else []


def is_ipxe(options: Mapping[int, bytes]) -> bool:
    """iPXE by its encapsulated options (175), or by user class.

    iPXE sends the class as bare text, RFC 3004 wants a length byte before it;
    others that imitate it do so.
    """
    return 175 in options or b"iPXE" in user_classes(options.get(77, b""))


def user_classes(raw: bytes) -> list[bytes]:
    """Option 77 in both forms: as it stands, and as RFC 3004 list when that comes out even."""
    classes, at = [raw], 0
    parts = []
    while at < len(raw):
        size = raw[at]
        if size == 0 or at + 1 + size > len(raw):
            return classes
        parts.append(raw[at + 1 : at + 1 + size])
        at += 1 + size
    return classes + parts


def uuid_text(raw: bytes) -> str | None:
    """Option 97 -> SMBIOS text form. Its first three fields are little-endian on the wire.

    A board without a UUID of its own names nobody.
    """
    if len(raw) != 17 or raw[0] != 0:
        return None
    if raw[1:] in _NOBODY:
        return None
    h = raw.hex()
    return f"{h[8:10]}{h[6:8]}{h[4:6]}{h[2:4]}-{h[12:14]}{h[10:12]}-{h[16:18]}{h[14:16]}-{h[18:22]}-{h[22:]}"


def uuid_bytes(text: str | None) -> bytes | None:
    """SMBIOS text form -> option 97; None when it names nobody."""
    raw = (text or "").replace("-", "")
    try:
        b = bytes.fromhex(raw)
    except ValueError:
        return None
    if len(b) != 16 or b in _NOBODY:
        return None
    return b"\0" + b[3::-1] + b[5:3:-1] + b[7:5:-1] + b[8:]
