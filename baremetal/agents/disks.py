"""The disks of this machine, read from sysfs: no udev, no lsblk. Touches none of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

_NOT_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock", "pmem")
_SAN = ("iscsi", "fc", "fcoe")


@dataclass(frozen=True)
class Disk:
    """One whole disk. Sizes in bytes. `refusal` says why we never touch it, "" when we may."""

    name: str
    path: str
    size: int
    model: str = ""
    vendor: str = ""
    serial: str = ""
    wwn: str = ""
    wwn_with_extension: str = ""
    wwn_vendor_extension: str = ""
    rotational: bool = False
    hctl: str = ""
    by_path: str = ""
    logical_sector: int = 512
    physical_sector: int = 512
    transport: str = ""
    removable: bool = False
    read_only: bool = False
    refusal: str = ""

    def to_inventory(self) -> Dict[str, Any]:
        """With Ironic's key names, and ours for what it lacks."""
        return {
            "name": self.path,
            "model": self.model,
            "vendor": self.vendor,
            "size": self.size,
            "serial": self.serial or None,
            "wwn": self.wwn or None,
            "wwn_with_extension": self.wwn_with_extension or None,
            "wwn_vendor_extension": self.wwn_vendor_extension or None,
            "rotational": self.rotational,
            "hctl": self.hctl or None,
            "by_path": f"/dev/disk/by-path/{self.by_path}" if self.by_path else None,
            "logical_sectors": self.logical_sector,
            "physical_sectors": self.physical_sector,
            "tran": self.transport or None,
            "removable": self.removable,
            "read_only": self.read_only,
            "refusal": self.refusal or None,
        }


def find(sys: str = "/sys", dev: str = "/dev", arrays: bool = False) -> List[Disk]:
    """All disks with a medium, by name; with `arrays` the running md arrays too."""
    base = os.path.join(sys, "block")
    names = sorted(os.listdir(base)) if os.path.isdir(base) else []
    disks = []
    for name in names:
        is_array = name.startswith("md") and os.path.isdir(f"{base}/{name}/md")
        if (name.startswith(_NOT_DISKS) and not is_array) or (is_array and not arrays):
            continue
        size = _number(f"{base}/{name}/size") * 512  # always in units of 512 bytes, whatever the disk
        if size and not _number(f"{base}/{name}/hidden"):
            disks.append(_disk(f"{base}/{name}", name, size, dev))
    return disks


def _disk(block: str, name: str, size: int, dev: str) -> Disk:
    real = os.path.realpath(block)
    wwid = _text(f"{block}/wwid") or _text(f"{block}/device/wwid")
    wwn, extension = _wwn(wwid)
    transport = _transport(real)
    removable = bool(_number(f"{block}/removable"))
    return Disk(
        name=name,
        path=f"{dev}/{name}",
        size=size,
        model=_text(f"{block}/device/model"),
        vendor=_text(f"{block}/device/vendor") if transport != "virtio" else "virtio",
        serial=_serial(block) or (_usb_serial(real) if transport == "usb" else ""),
        wwn=wwn,
        wwn_with_extension=wwn + extension if wwn else "",
        wwn_vendor_extension=f"0x{extension}" if extension else "",
        rotational=bool(_number(f"{block}/queue/rotational")),
        hctl=_hctl(block),
        by_path=_by_path(real),
        logical_sector=_number(f"{block}/queue/logical_block_size") or 512,
        physical_sector=_number(f"{block}/queue/physical_block_size") or 512,
        transport=transport,
        removable=removable,
        read_only=bool(_number(f"{block}/ro")),
        refusal=_refusal(block, transport, removable),
    )


def _refusal(block: str, transport: str, removable: bool) -> str:
    if removable:
        return "removable"
    if transport == "usb":
        return "on USB"
    if transport in _SAN:
        return f"on a SAN ({transport})"
    holders = f"{block}/holders"
    held_by = sorted(os.listdir(holders)) if os.path.isdir(holders) else []
    if any(_is_multipath(f"{holders}/{h}") for h in held_by):
        return "a path of a multipath disk"
    return next((f"a member of the running array {h}" for h in held_by if h.startswith("md")), "")


def _is_multipath(holder: str) -> bool:
    return _text(f"{holder}/dm/uuid").startswith("mpath-")


def _serial(block: str) -> str:
    """virtio: beside the disk; NVMe: of the controller; SCSI and ATA: VPD page 0x80 (SPC-4 §7.8.14)."""
    found = _text(f"{block}/serial") or _text(f"{block}/device/serial")
    if found:
        return found
    page = _raw(f"{block}/device/vpd_pg80")
    return page[4:].decode("ascii", "replace").strip(" \0\ufffd") if len(page) > 4 else ""


def _usb_serial(real: str) -> str:
    """Of the USB device the disk sits in: the kernel does not ask sticks for VPD pages."""
    parts = real.split("/")
    for end in range(len(parts), 2, -1):
        found = _text("/".join([*parts[:end], "serial"]))
        if found:
            return found
    return ""


def _wwn(wwid: str) -> "tuple[str, str]":
    """Kernel's wwid -> (0x + 16 digits, extension) as udev's ID_WWN; NVMe and t10 ids go whole."""
    kind, _, value = wwid.partition(".")
    if kind == "naa":
        return "0x" + value[:16], value[16:]
    if kind in ("eui", "uuid", "nvme"):
        return wwid, ""
    return "", ""


def _transport(real: str) -> str:
    """Bus of the disk, from the path of its device in sysfs."""
    if "/virtual/block/md" in real:
        return "md"
    for mark, name in (
        ("/usb", "usb"),
        ("/session", "iscsi"),
        ("/rport-", "fc"),
        ("/virtio", "virtio"),
        ("/nvme", "nvme"),
        ("/end_device-", "sas"),
        ("/ata", "sata"),
        ("/mmc", "mmc"),
        ("/host", "scsi"),
    ):
        if mark in real:
            return name
    return ""


def _hctl(block: str) -> str:
    """host:channel:target:lun of a SCSI disk."""
    device = os.path.basename(os.path.realpath(f"{block}/device"))
    return device if device.count(":") == 3 and device.replace(":", "").isdigit() else ""


def _by_path(real: str) -> str:
    """As udev's path_id names it, for the buses we know; "" else."""
    parts = real.split("/")
    pci = [p for p in parts if _is_pci(p)]
    if not pci:
        return ""
    name = f"pci-{pci[-1]}"
    for i, part in enumerate(parts):
        if part.startswith("ata") and part[3:].isdigit():
            port = _text("/".join([*parts[: i + 1], "ata_port", part, "port_no"])) or part[3:]
            return f"{name}-ata-{port}"
        if part.startswith("nvme") and "n" in part[4:] and part == parts[-1]:
            return f"{name}-nvme-{_text(f'{real}/nsid') or '1'}"
        if part.count(":") == 3 and part.replace(":", "").isdigit() and "virtio" in real:
            return f"{name}-scsi-{part}"
        if part.count(":") == 3 and part.replace(":", "").isdigit():
            return f"{name}-scsi-0{part[part.index(':') :]}"
    return name


def _is_pci(part: str) -> bool:
    return len(part) == 12 and part[4] == ":" and part[7] == ":" and part[10] == "."


def _raw(path: str, limit: int = 4096) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read(limit)
    except OSError:
        return b""


def _text(path: str) -> str:
    return _raw(path).decode("ascii", "replace").strip(" \n\0")


def _number(path: str) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else 0


def by_name(disks: List[Disk], name: str) -> Optional[Disk]:
    """The disk called vda or /dev/vda."""
    return next((d for d in disks if name in (d.name, d.path)), None)
