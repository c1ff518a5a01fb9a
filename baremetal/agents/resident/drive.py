"""Finds and reads the config drive without mounting anything: candidates are read directly.

A block device whose ISO 9660 volume is labelled config-2: a partition of the
root disk (the last one, as our installer writes it), a whole disk, a CD. A
vfat volume, which some tools write, is not read.
"""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, Optional, Set, Tuple

from baremetal.protocol import configdrive

LABELS = ("config-2", "CONFIG-2", "cidata", "CIDATA")
DESCRIPTOR = 16 * 2048  # the primary volume descriptor (ECMA-119 §8.4)
MAX_BYTES = 64 * 1024 * 1024


def find(candidates: Optional[Iterable[str]] = None) -> Optional[Dict[str, bytes]]:
    """The files of the first config drive, None when there is none."""
    for device in devices() if candidates is None else candidates:
        files = read(device)
        if files is not None:
            return files
    return None


def read(device: str) -> Optional[Dict[str, bytes]]:
    """Its files when it is a config drive, else None."""
    try:
        with open(device, "rb") as f:
            f.seek(DESCRIPTOR)
            descriptor = f.read(2048)
            if descriptor[1:6] != b"CD001" or _label(descriptor) not in LABELS:
                return None
            sectors = int.from_bytes(descriptor[80:84], "little")
            f.seek(0)
            image = f.read(min(sectors * 2048, MAX_BYTES))
        return configdrive.read(image)
    except (OSError, configdrive.BadDrive):
        return None


def devices(sys: str = "/sys", dev: str = "/dev", root: str = "/") -> List[str]:
    """Block devices worth a look, no RAM or loop or mapped devices.

    First the disk we run from, where the installer writes it; a drive that an earlier
    deployment left on another disk is not ours. What can be plugged in comes last.
    Partitions before whole disks, the last ones first.
    """
    base = os.path.join(sys, "class/block")
    try:
        names = [n for n in os.listdir(base) if not n.startswith(("ram", "loop", "zram", "dm-", "md", "fd", "nbd"))]
    except OSError:
        return []
    ours = _disks_of(root, sys)

    def order(name: str) -> Tuple[bool, bool, bool, int, str]:
        disk = _disk_of(os.path.join(base, name))
        whole = disk == name
        return disk not in ours, _removable(os.path.join(base, disk)), whole, _backwards(name), name

    return [os.path.join(dev, name) for name in sorted(names, key=order)]


def _disk_of(device: str) -> str:
    """The disk of a block device's directory in sysfs: itself, or what it is a partition of."""
    real = os.path.realpath(device)
    return os.path.basename(os.path.dirname(real) if os.path.exists(os.path.join(real, "partition")) else real)


def _disks_of(path: str, sys: str) -> Set[str]:
    """The disks under this file system, through LVM, LUKS and arrays; none when it is on no block device."""
    try:
        number = os.stat(path).st_dev
    except OSError:
        return set()
    found: Set[str] = set()
    below = [os.path.join(sys, "dev/block", f"{os.major(number)}:{os.minor(number)}")]
    while below:
        device = os.path.realpath(below.pop())
        try:
            under = os.listdir(os.path.join(device, "slaves"))
        except OSError:
            under = []
        below += [os.path.join(device, "slaves", name) for name in under]
        if not under and os.path.exists(device):
            found.add(_disk_of(device))
    return found


def _removable(disk: str) -> bool:
    """Removable, or on USB: anybody with a hand on the machine may have put it there."""
    try:
        with open(os.path.join(disk, "removable")) as f:
            removable = f.read().strip() == "1"
    except OSError:
        removable = False
    return removable or "/usb" in os.path.realpath(disk)


def _backwards(name: str) -> int:
    digits = name[len(name.rstrip("0123456789")) :]
    return -int(digits) if digits else 0


def _label(descriptor: bytes) -> str:
    return descriptor[40:72].decode("ascii", "replace").rstrip()
