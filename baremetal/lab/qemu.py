"""The QEMU command line of a machine. Pure: names and numbers in, arguments out.

What each option is for was measured: q35 with graphics=off makes SeaBIOS, iPXE
and GRUB print on the serial port; bootindex is obeyed by SeaBIOS and OVMF alike,
so no NVRAM is touched; reboot=shutdown turns a guest reboot into the end of the
process, so that the next boot gets a new boot order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from baremetal.lab.spec import MachineSpec
from baremetal.wire.ipmi.bootopts import Override
from baremetal.wire.ipmi.codes import BootDevice

_OVMF = Path("/usr/share/OVMF")
#: Firmware and blank variable store by the keys of Secure Boot.
OVMF = {
    "": (_OVMF / "OVMF_CODE_4M.fd", _OVMF / "OVMF_VARS_4M.fd"),
    "microsoft": (_OVMF / "OVMF_CODE_4M.secboot.fd", _OVMF / "OVMF_VARS_4M.ms.fd"),
    "snakeoil": (_OVMF / "OVMF_CODE_4M.secboot.fd", _OVMF / "OVMF_VARS_4M.snakeoil.fd"),
}

_NIC_MODEL = {"virtio": "virtio-net-pci", "e1000": "e1000", "e1000e": "e1000e"}
_DISK_OVERRIDES = (BootDevice.DISK, BootDevice.DISK_SAFE, BootDevice.REMOTE_DISK)
_CD_OVERRIDES = (BootDevice.CDROM, BootDevice.REMOTE_CDROM, BootDevice.REMOTE_MEDIA)


@dataclass(frozen=True)
class Boot:
    """What one power-on uses. `cd` is an ISO file that is inserted."""

    override: Override = field(default_factory=Override)
    cd: Path | None = None

    def order(self, usual: tuple[str, ...]) -> list[str]:
        """Kinds of devices in the order the firmware tries them."""
        device = self.override.device
        first = ""
        if device is BootDevice.PXE:
            first = "network"
        elif device in _DISK_OVERRIDES:
            first = "disk"
        elif device in _CD_OVERRIDES:
            first = "cd"
        return ([first] if first else []) + [kind for kind in (*usual, "cd") if kind != first]


@dataclass(frozen=True)
class Wiring:
    """What the machine is plugged into. `disks` are (file, format); fds are inherited sockets."""

    directory: Path
    taps: tuple[str, ...]
    disks: tuple[tuple[Path, str], ...]
    accel: tuple[str, ...]
    qmp_fd: int
    serial_fd: int


def arguments(spec: MachineSpec, wiring: Wiring, boot: Boot) -> list[str]:
    """All arguments after the program's name."""
    indexes = _Indexes(boot.order(spec.boot_order))
    machine = "q35,smbus=off,graphics=off" + (",smm=on" if spec.secure_boot else "")
    out = ["-name", spec.name, "-machine", machine, *wiring.accel]
    out += ["-smp", str(spec.cpus), "-m", str(spec.memory_mib), "-uuid", str(spec.uuid)]
    out += ["-smbios", f"type=1,manufacturer={spec.vendor},product={spec.product},serial={spec.serial}"]
    out += ["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-action", "reboot=shutdown"]
    out += _firmware(spec, wiring, boot)
    for number, tap in enumerate(wiring.taps):
        out += _nic(spec, number, tap, indexes.take("network"))
    out += _disks(spec, wiring, indexes)
    if boot.cd is not None:
        out += ["-drive", f"file={_escaped(boot.cd)},if=none,id=cd0,media=cdrom,readonly=on"]
        out += [
            "-device",
            "ich9-ahci,id=cdbus",
            "-device",
            f"ide-cd,drive=cd0,bus=cdbus.0,bootindex={indexes.take('cd')}",
        ]
    out += ["-device", "virtio-rng-pci"]
    out += [
        "-chardev",
        f"socket,id=ser0,fd={wiring.serial_fd},logfile=serial.log,logappend=on",
        "-serial",
        "chardev:ser0",
    ]
    out += ["-chardev", f"socket,id=mon0,fd={wiring.qmp_fd}", "-mon", "chardev=mon0,mode=control", "-monitor", "none"]
    if spec.kcs:  # QEMU 7.2 dies of a socket that is connected from the start; this one connects a moment later
        out += [
            "-chardev",
            "socket,id=ipmi0,path=kcs.sock,reconnect=1",
            "-device",
            "ipmi-bmc-extern,id=bmc0,chardev=ipmi0",
        ]
        out += ["-device", "isa-ipmi-kcs,bmc=bmc0"]
    return out


class _Indexes:
    """bootindex numbers: a hundred per kind of device, in the order of kinds; each is used once."""

    def __init__(self, order: list[str]) -> None:
        self._next = {kind: 100 * place + 1 for place, kind in enumerate(order)}

    def take(self, kind: str) -> int:
        number = self._next.get(kind, 900)
        self._next[kind] = number + 1
        return number


def _firmware(spec: MachineSpec, wiring: Wiring, boot: Boot) -> list[str]:
    if spec.firmware == "bios":
        return []
    out = ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF[spec.secure_boot][0]}"]
    out += ["-drive", f"if=pflash,format=raw,unit=1,file={_escaped(wiring.directory / 'vars.fd')}"]
    if spec.secure_boot:  # only the firmware, in system management mode, may write its variables
        out += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    if boot.override.url:  # UEFI HTTP boot: the only network entries left are the HTTP ones
        out += ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]
        out += ["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]
    return out


def _nic(spec: MachineSpec, number: int, tap: str, index: int) -> list[str]:
    model = _NIC_MODEL[spec.nic]
    # An empty romfile takes QEMU's iPXE away: OVMF then uses its own driver and PXE stack, as servers do.
    rom = "" if spec.needs_oprom else ",romfile="
    return [
        *("-netdev", f"tap,id=net{number},ifname={tap},script=no,downscript=no"),
        *("-device", f"{model},netdev=net{number},id=nic{number},mac={spec.macs[number]},bootindex={index}{rom}"),
    ]


def _disks(spec: MachineSpec, wiring: Wiring, indexes: _Indexes) -> list[str]:
    out: list[str] = []
    if spec.disk == "ahci":
        out += ["-device", "ich9-ahci,id=ahci0"]
    if spec.disk == "scsi":
        out += ["-device", "virtio-scsi-pci,id=scsi0"]
    for number, (file, kind) in enumerate(wiring.disks):
        name = f"d{number}"
        serial = f"{spec.serial}-D{number}"[:20]
        out += ["-drive", f"file={_escaped(file)},if=none,id={name},format={kind},cache=unsafe,discard=unmap"]
        device = {
            "virtio": "virtio-blk-pci",
            "ahci": f"ide-hd,bus=ahci0.{number}",
            "nvme": "nvme",
            "scsi": f"scsi-hd,bus=scsi0.0,scsi-id={number}",
        }[spec.disk]
        out += ["-device", f"{device},drive={name},serial={serial},bootindex={indexes.take('disk')}"]
    return out


def _escaped(path: Path) -> str:
    """QEMU splits options at commas; a doubled comma is one comma."""
    return str(path).replace(",", ",,")
