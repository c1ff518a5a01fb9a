"""Finds and reads the config drive without mounting anything: candidates are read directly.

A block device whose ISO 9660 volume is labelled config-2: a partition of the
root disk (the last one, as our installer writes it), a whole disk, a CD. A
vfat volume, which some tools write, is not read.
"""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, Optional

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


def devices(sys_block: str = "/sys/class/block", dev: str = "/dev") -> List[str]:
    """Block devices worth a look, partitions first and last ones first, no RAM or loop or mapped devices."""
    try:
        names = [
            n for n in os.listdir(sys_block) if not n.startswith(("ram", "loop", "zram", "dm-", "md", "fd", "nbd"))
        ]
    except OSError:
        return []
    names.sort(key=lambda name: (not os.path.exists(os.path.join(sys_block, name, "partition")), _backwards(name)))
    return [os.path.join(dev, name) for name in names]


def _backwards(name: str) -> int:
    digits = name[len(name.rstrip("0123456789")) :]
    return -int(digits) if digits else 0


def _label(descriptor: bytes) -> str:
    return descriptor[40:72].decode("ascii", "replace").rstrip()
