"""What particular firmware does differently, as data: `quirks.toml`.

A rule matches on vendor, product or firmware and sets a few named behaviours.
Drivers ask `Quirks`; nobody asks for a vendor's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from baremetal.bmc.base import BootDevice
from baremetal.errors import UsageError


@dataclass(frozen=True)
class Quirks:
    """Behaviours of one BMC; the defaults are the standard's.

    `guid_order`: smbios, rfc4122 or ipmi. `uefi_disk_selector`: the boot flag
    selector for a UEFI disk (Supermicro: 9). `uefi_once_ignored`: one-shot EFI flags are
    dropped, so send persistent and clear afterwards. `loses_valid_bit`: the boot flags
    read back without the valid bit though they hold. `sends_boot_enabled`: always send
    BootSourceOverrideEnabled. `full_boot_object`: send the whole boot object.
    `no_continuous`: no Continuous override; re-arm Once before each start.
    `gap_s`: seconds between two commands. `fru_read_bytes`: largest FRU read.
    `because` says where this is known from.
    """

    guid_order: str = "smbios"
    uefi_disk_selector: int | None = None
    uefi_once_ignored: bool = False
    loses_valid_bit: bool = False
    sends_boot_enabled: bool = False
    full_boot_object: bool = False
    no_continuous: bool = False
    gap_s: float = 0.0
    fru_read_bytes: int = 128
    because: str = ""

    @property
    def disk_selectors(self) -> frozenset[int]:
        """Selectors that mean disk on this machine."""
        return frozenset({2} if self.uefi_disk_selector is None else {2, self.uefi_disk_selector})

    def selector(self, device: BootDevice, uefi: bool, standard: int) -> int:
        """The boot flag selector to send."""
        if device is BootDevice.DISK and uefi and self.uefi_disk_selector is not None:
            return self.uefi_disk_selector
        return standard

    def always_persistent(self, uefi: bool) -> bool:
        """One-shot flags do not hold on this machine."""
        return uefi and self.uefi_once_ignored

    def for_ipmi(self, manufacturer: int, product: int) -> Quirks:
        """These quirks, refined by what Get Device ID said."""
        return self._refine(manufacturer=manufacturer, product_id=product)

    def for_redfish(self, vendor: str | None, product: str | None, firmware: str | None) -> Quirks:
        """These quirks, refined by what the Redfish service said."""
        return self._refine(vendor=vendor, product=product, firmware=firmware)

    def _refine(self, **facts: Any) -> Quirks:
        found = self
        for rule in rules():
            if _matches(rule["match"], facts):
                found = replace(found, **rule["set"], because=rule.get("because", ""))
        return found


@cache
def rules() -> tuple[dict[str, Any], ...]:
    """The rules shipped with the program, in order."""
    return parse(Path(__file__).with_name("quirks.toml").read_text(encoding="utf-8"))


def parse(text: str) -> tuple[dict[str, Any], ...]:
    """Rules of a quirks file; UsageError names an unknown match or behaviour."""
    import tomllib

    known = {item.name for item in fields(Quirks)} - {"because"}
    found = []
    for index, rule in enumerate(tomllib.loads(text).get("rule", [])):
        unknown = set(rule.get("set", {})) - known or set(rule.get("match", {})) - _MATCHES
        if unknown or not rule.get("match"):
            raise UsageError(f"quirks rule {index}: cannot be used", detail=f"unknown: {sorted(unknown)}")
        found.append(rule)
    return tuple(found)


_MATCHES = {"manufacturer", "product_id", "vendor", "product", "firmware"}


def _matches(match: dict[str, Any], facts: dict[str, Any]) -> bool:
    for name, wanted in match.items():
        have = facts.get(name)
        if have is None:
            return False
        if isinstance(wanted, list):
            if have not in wanted:
                return False
        elif not re.search(str(wanted), str(have), re.IGNORECASE):
            return False
    return True
