"""Who asks x what the node is for -> what it boots. One behaviour a row."""

import pytest

from baremetal.boot.decide import Urls, decide
from baremetal.model.boot import (
    AddressOnly,
    Arch,
    BootRecord,
    Client,
    Decision,
    Ignore,
    Loader,
    LoadFile,
    LocalDisk,
    Purpose,
    Script,
)
from baremetal.model.network import Mode, Network
from baremetal.serve.loaders import read_loaders

MAC = "52:54:00:00:00:01"
URLS = Urls(http="http://10.0.0.1:8080", loaders=read_loaders())
SCRIPT = "script http://10.0.0.1:8080/boot/52-54-00-00-00-01.ipxe"
HTTP = "http://10.0.0.1:8080/loaders/"


def record(purpose: Purpose, *, secure: bool = False) -> BootRecord:
    return BootRecord("id", "r1-u07", (MAC,), None, purpose, "inspecting", secure_boot=secure)


def network(mode: Mode = Mode.KNOWN) -> Network:
    return Network("prov", "eth0", "10.0.0.0/24", "10.0.0.1", "10.0.0.100", "10.0.0.200", mode=mode)


def shown(decision: Decision) -> str:
    match decision:
        case Ignore():
            return "ignore"
        case LoadFile(name=name):
            return name if name.startswith("http") else f"tftp {name}"
        case Script(url=url):
            return f"script {url}"
        case LocalDisk(script=script):
            return f"disk {script}" if script else "disk"
        case AddressOnly():
            return "address"


KNOWN = [
    # firmware        loader            purpose           secure boots
    (Arch.BIOS, Loader.FIRMWARE, Purpose.RAMDISK, False, "tftp undionly.kpxe"),
    (Arch.UEFI_X64, Loader.FIRMWARE, Purpose.RAMDISK, False, "tftp snponly.efi"),
    (Arch.UEFI_ARM64, Loader.FIRMWARE, Purpose.RAMDISK, False, "tftp snponly-arm64.efi"),
    (Arch.UEFI_IA32, Loader.FIRMWARE, Purpose.RAMDISK, False, "ignore"),
    (Arch.UEFI_ARM32, Loader.FIRMWARE, Purpose.RAMDISK, False, "ignore"),
    (Arch.UEFI_EBC, Loader.HTTP, Purpose.RAMDISK, False, "ignore"),
    (Arch.UNKNOWN, Loader.FIRMWARE, Purpose.RAMDISK, False, "ignore"),
    (Arch.UEFI_X64, Loader.HTTP, Purpose.RAMDISK, False, HTTP + "snponly.efi"),
    (Arch.UEFI_ARM64, Loader.HTTP, Purpose.RAMDISK, False, HTTP + "snponly-arm64.efi"),
    (Arch.BIOS, Loader.IPXE, Purpose.RAMDISK, False, SCRIPT),
    (Arch.UEFI_X64, Loader.IPXE, Purpose.RAMDISK, False, SCRIPT),
    (Arch.UNKNOWN, Loader.IPXE, Purpose.RAMDISK, False, SCRIPT),
    (Arch.UEFI_X64, Loader.FIRMWARE, Purpose.RAMDISK, True, "tftp shimx64.efi"),
    (Arch.UEFI_ARM64, Loader.FIRMWARE, Purpose.RAMDISK, True, "tftp shimaa64.efi"),
    (Arch.UEFI_X64, Loader.HTTP, Purpose.RAMDISK, True, "ignore"),
    (Arch.BIOS, Loader.FIRMWARE, Purpose.RAMDISK, True, "ignore"),
    (Arch.BIOS, Loader.FIRMWARE, Purpose.DISK, False, "disk"),
    (Arch.UEFI_X64, Loader.FIRMWARE, Purpose.DISK, False, "disk"),
    (Arch.UEFI_X64, Loader.HTTP, Purpose.DISK, False, "disk"),
    (Arch.BIOS, Loader.IPXE, Purpose.DISK, False, SCRIPT.replace("script", "disk", 1)),
    (Arch.BIOS, Loader.IPXE, Purpose.NONE, False, SCRIPT.replace("script", "disk", 1)),
    (Arch.UEFI_X64, Loader.FIRMWARE, Purpose.NONE, False, "disk"),
    (Arch.UNKNOWN, Loader.NONE, Purpose.RAMDISK, False, "address"),
    (Arch.UNKNOWN, Loader.NONE, Purpose.DISK, False, "address"),
    (Arch.UNKNOWN, Loader.NONE, Purpose.NONE, False, "address"),
]


@pytest.mark.parametrize(("arch", "loader", "purpose", "secure", "boots"), KNOWN)
def test_known_node(arch: Arch, loader: Loader, purpose: Purpose, secure: bool, boots: str) -> None:
    decision = decide(Client(MAC, arch, loader), record(purpose, secure=secure), network(), URLS)
    assert shown(decision) == boots
    assert "r1-u07" in decision.because


UNKNOWN = [
    # network       loader           boots
    (Mode.KNOWN, Loader.FIRMWARE, "ignore"),
    (Mode.KNOWN, Loader.IPXE, "ignore"),
    (Mode.KNOWN, Loader.NONE, "ignore"),
    (Mode.DISCOVER, Loader.FIRMWARE, "tftp snponly.efi"),
    (Mode.DISCOVER, Loader.IPXE, SCRIPT),
    (Mode.DISCOVER, Loader.NONE, "ignore"),
    (Mode.ANYBODY, Loader.FIRMWARE, "tftp snponly.efi"),
    (Mode.ANYBODY, Loader.IPXE, SCRIPT),
    (Mode.ANYBODY, Loader.NONE, "address"),
]


@pytest.mark.parametrize(("mode", "loader", "boots"), UNKNOWN)
def test_unknown_machine(mode: Mode, loader: Loader, boots: str) -> None:
    decision = decide(Client(MAC, Arch.UEFI_X64, loader), None, network(mode), URLS)
    assert shown(decision) == boots
    assert "no node has" in decision.because


def test_the_reason_for_a_node_is_its_own() -> None:
    decision = decide(Client(MAC, Arch.BIOS, Loader.IPXE), record(Purpose.RAMDISK), network(), URLS)
    assert decision.because == "r1-u07: inspecting; iPXE asks for its script"
