"""The boot override in Redfish's words, over the same flags that IPMI sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baremetal.lab.redfish.http import Doc, Problem, bad_value
from baremetal.wire.ipmi.bootopts import Override
from baremetal.wire.ipmi.codes import BootDevice

if TYPE_CHECKING:
    from baremetal.lab.redfish.face import Face

#: Stands for "HTTP boot from where DHCP says" where no HttpBootUri was given.
BY_DHCP = "dhcp"

_TARGET = {
    "None": BootDevice.NONE,
    "Pxe": BootDevice.PXE,
    "Hdd": BootDevice.DISK,
    "Cd": BootDevice.CDROM,
    "BiosSetup": BootDevice.BIOS,
    "Diags": BootDevice.DIAG,
    "Usb": BootDevice.FLOPPY,
}
_NAME = {
    **{device: name for name, device in _TARGET.items()},
    BootDevice.DISK_SAFE: "Hdd",
    BootDevice.REMOTE_CDROM: "Cd",
    BootDevice.REMOTE_MEDIA: "Usb",
    BootDevice.REMOTE_DISK: "Hdd",
    BootDevice.REMOTE_FLOPPY: "Usb",
}


def show(face: Face, override: Override) -> Doc:
    """The Boot object of a ComputerSystem."""
    enabled = "Disabled"
    if override.device:
        enabled = "Once" if override.once else "Continuous"
    http = bool(override.url)
    kinds = ["Disabled", "Once"] if face.quirks.no_continuous else ["Disabled", "Once", "Continuous"]
    return {
        "BootSourceOverrideEnabled": enabled,
        "BootSourceOverrideEnabled@Redfish.AllowableValues": kinds,
        "BootSourceOverrideTarget": "UefiHttp" if http else _NAME.get(override.device, "None"),
        "BootSourceOverrideTarget@Redfish.AllowableValues": [*_TARGET, "UefiHttp"],
        "BootSourceOverrideMode": "UEFI" if override.uefi or face.firmware == "uefi" else "Legacy",
        "BootSourceOverrideMode@Redfish.AllowableValues": ["UEFI", "Legacy"],
        "HttpBootUri": override.url if override.url not in ("", BY_DHCP) else None,
    }


def change(face: Face, asked: Doc, now: float) -> None:
    """PATCH of Boot: what is not named stays as it is."""
    if face.bmc.quirks.boot_dropped:
        return
    _refuse_by_vendor(face, asked, now)
    shown = show(face, face.bmc.boot.peek(now))
    wanted = {**shown, **asked}
    target, enabled = wanted["BootSourceOverrideTarget"], wanted["BootSourceOverrideEnabled"]
    mode = wanted["BootSourceOverrideMode"]
    if target not in (*_TARGET, "UefiHttp"):
        raise bad_value("BootSourceOverrideTarget", target)
    if enabled not in ("Disabled", "Once", "Continuous"):
        raise bad_value("BootSourceOverrideEnabled", enabled)
    if mode not in ("UEFI", "Legacy"):
        raise bad_value("BootSourceOverrideMode", mode)
    if target == "UefiHttp" and mode != "UEFI":
        raise Problem(400, "PropertyValueConflict", "UefiHttp needs BootSourceOverrideMode UEFI.")
    if "BootSourceOverrideTarget" in asked and "BootSourceOverrideEnabled" not in asked and enabled == "Disabled":
        enabled = "Once"
    device = BootDevice.PXE if target == "UefiHttp" else _TARGET[target]
    if enabled == "Disabled":
        device = BootDevice.NONE
    url = (wanted.get("HttpBootUri") or BY_DHCP) if target == "UefiHttp" else ""
    once = enabled != "Continuous" or face.bmc.quirks.boot_persistent_lost
    face.bmc.boot.order(device, once=once, uefi=mode == "UEFI", url=url)


def _refuse_by_vendor(face: Face, asked: Doc, now: float) -> None:
    quirks = face.quirks
    needed: list[str] = []
    if quirks.enabled_required or quirks.full_boot_object:
        needed.append("BootSourceOverrideEnabled")
    if quirks.full_boot_object:
        needed += ["BootSourceOverrideTarget", "BootSourceOverrideMode"]
    if absent := [name for name in needed if name not in asked]:
        raise Problem(400, "PropertyMissing", f"The property {absent[0]} is required.")
    if now - face.powered_at < quirks.post_s:
        raise Problem(400, "UnableToModifyDuringSystemPOST", "The system is in POST.")
    if quirks.no_continuous and asked.get("BootSourceOverrideEnabled") == "Continuous":
        raise bad_value("BootSourceOverrideEnabled", "Continuous")
