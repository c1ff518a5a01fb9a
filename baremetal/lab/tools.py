"""The programs the lab needs and the Debian packages that bring them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from baremetal.errors import MachineError

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
FILES = {
    "/usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf",
    "/usr/lib/ipxe/qemu/pxe-virtio.rom": "ipxe-qemu",
}
_SBIN = ("/usr/sbin", "/sbin")


def find(program: str) -> str | None:
    """Path of a program, also outside a user's PATH."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(_SBIN))


def missing(*, uefi: bool = True) -> list[str]:
    """Debian packages to install before the lab can run."""
    packages = {package for program, package in PACKAGES.items() if find(program) is None}
    packages |= {package for file, package in FILES.items() if (uefi or package != "ovmf") and not Path(file).exists()}
    return sorted(packages)


def require(*, uefi: bool = True) -> None:
    """Raise MachineError that names every missing package at once."""
    if packages := missing(uefi=uefi):
        raise MachineError(
            "the lab needs programs that are not installed",
            detail="missing packages: " + ", ".join(packages),
            fix="apt-get install --no-install-recommends " + " ".join(packages),
        )
