"""System GUIDs, serials and maker names, made comparable.

Two machines are the same when their system GUID is, so every spelling is
brought to SMBIOS text form once, and values that mean "nobody filled this in"
are treated as absent.
"""

from __future__ import annotations

import uuid

# Seen on boards sold by the thousand; compared without case, spaces and dots.
PLACEHOLDERS = {
    "",
    "0",
    "00000000",
    "0123456789",
    "1234567890",
    "123456789",
    "none",
    "na",
    "n/a",
    "null",
    "unknown",
    "default",
    "defaultstring",
    "empty",
    "notspecified",
    "notapplicable",
    "notavailable",
    "systemserialnumber",
    "chassisserialnumber",
    "baseboardserialnumber",
    "systemproductname",
    "systemmanufacturer",
    "tobefilledbyoem",
    "oem",
    "xxxxxxxxxx",
    "invalid",
}
# GUIDs burnt into whole product lines.
SHARED_GUIDS = {
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
}
# IANA private enterprise numbers as Get Device ID reports them.
VENDORS = {
    2: "IBM",
    11: "HPE",
    42: "Oracle",
    119: "NEC",
    311: "Microsoft",
    343: "Intel",
    674: "Dell",
    2011: "Huawei",
    5771: "Cisco",
    7154: "IPMI forum",
    7244: "Quanta",
    10368: "Fujitsu",
    10876: "Supermicro",
    15370: "Gigabyte",
    19046: "Lenovo",
    20301: "Lenovo",
    33049: "NVIDIA",
    37945: "Inspur",
    40092: "Wiwynn",
    47196: "HPE",
    47488: "Supermicro",
    49622: "ASRockRack",
    49769: "OpenBMC",
}


def present(text: str | None) -> str | None:
    """The text without padding, or None when it is a placeholder."""
    if text is None:
        return None
    text = "".join(char for char in text if char.isprintable()).strip()
    squeezed = "".join(char for char in text.lower() if char not in " .-_")
    if squeezed in PLACEHOLDERS or (len(squeezed) > 3 and len(set(squeezed)) == 1):
        return None
    return text


def smbios_text(raw: bytes, order: str = "smbios") -> str | None:
    """16 bytes of Get System GUID as `dmidecode` shows the machine's UUID.

    Orders: `smbios` (first three fields little-endian: what most send),
    `rfc4122` (as the text reads), `ipmi` (all sixteen reversed, IPMI 2.0 §20.8).
    """
    if order == "smbios":
        value = uuid.UUID(bytes_le=raw)
    elif order == "ipmi":
        value = uuid.UUID(bytes=raw[::-1])
    else:
        value = uuid.UUID(bytes=raw)
    text = str(value)
    return None if text in SHARED_GUIDS else text


def normal_uuid(text: str | None) -> str | None:
    """A UUID text in lower case with hyphens, None when it is none or a shared one."""
    try:
        value = str(uuid.UUID((text or "").strip()))
    except ValueError:
        return None
    return None if value in SHARED_GUIDS else value


def vendor_name(manufacturer_id: int) -> str | None:
    """The maker's name for an IANA enterprise number; None for 0 and reserved ones."""
    if manufacturer_id in (0, 0xFFFFF):
        return None
    return VENDORS.get(manufacturer_id, f"IANA {manufacturer_id}")
