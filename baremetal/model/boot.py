"""What a booting machine is, and what we answer it.

`wire/pxe.py` makes a Client of a packet, `boot/decide.py` makes a decision of
Client and BootRecord. Every decision carries its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Arch(StrEnum):
    """Client system architecture (RFC 4578 §2.1 and the IANA processor table)."""

    BIOS = "bios"
    UEFI_IA32 = "uefi-ia32"
    UEFI_X64 = "uefi-x64"
    UEFI_EBC = "uefi-ebc"
    UEFI_ARM32 = "uefi-arm32"
    UEFI_ARM64 = "uefi-arm64"
    UNKNOWN = "unknown"


class Loader(StrEnum):
    """Who is asking: the firmware's own PXE, UEFI HTTP boot, iPXE, or no boot client at all."""

    FIRMWARE = "firmware"
    HTTP = "http"
    IPXE = "ipxe"
    NONE = "none"


@dataclass(frozen=True)
class Client:
    """Who asks. `mac` is lower case with colons; `uuid` in SMBIOS text form."""

    mac: str
    arch: Arch
    loader: Loader
    uuid: str | None = None


class Purpose(StrEnum):
    """What the next boot of a node is for."""

    RAMDISK = "ramdisk"
    NETBOOT = "netboot"
    DISK = "disk"
    NONE = "none"


@dataclass(frozen=True)
class BootRecord:
    """What the boot plane knows of one node: the answer to "what does it boot?".

    A pure function of the store, pushed by the control plane. `purpose` is
    RAMDISK while a workflow wants the agent, DISK when the node is active,
    NETBOOT when what it runs is fetched from the network at every boot.
    `kernel` and `initrd` are names in the boot plane's virtual tree.
    `address` is the node's fixed IPv4 address on its network.
    """

    node_id: str
    name: str
    macs: tuple[str, ...]
    uuid: str | None
    purpose: Purpose
    because: str
    boot_id: str | None = None
    address: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    secure_boot: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ignore:
    """No answer."""

    because: str


@dataclass(frozen=True)
class LoadFile:
    """Load this file: a TFTP name, or a URL for UEFI HTTP boot."""

    name: str
    because: str


@dataclass(frozen=True)
class Script:
    """Run this iPXE script (a URL)."""

    url: str
    because: str


@dataclass(frozen=True)
class LocalDisk:
    """Do not boot from the network. iPXE is sent to a script (a URL) that says so and leaves."""

    because: str
    script: str | None = None


@dataclass(frozen=True)
class AddressOnly:
    """Not a boot client (an operating system): give it its address, no boot file."""

    because: str


Decision = Ignore | LoadFile | Script | LocalDisk | AddressOnly
