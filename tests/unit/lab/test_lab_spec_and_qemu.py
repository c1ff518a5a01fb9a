"""A spec becomes a QEMU command line; orders of boot; names; faults; profiles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from baremetal.errors import NotFound, UsageError
from baremetal.lab import faults, qemu
from baremetal.lab.bmc import VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.lab.fleet import FleetSpec, build
from baremetal.lab.inside import spec_from_json, spec_to_json
from baremetal.lab.profiles import profile, profiles
from baremetal.lab.spec import MachineSpec, RackSpec, machines
from baremetal.wire.ipmi.bootopts import Override
from baremetal.wire.ipmi.codes import BootDevice
from baremetal.wire.ipmi.quirks import Quirks

ORDERS = [  # override             usual                 cd?    order
    (BootDevice.NONE, ("disk", "network"), ["disk", "network", "cd"]),
    (BootDevice.PXE, ("disk", "network"), ["network", "disk", "cd"]),
    (BootDevice.DISK, ("network", "disk"), ["disk", "network", "cd"]),
    (BootDevice.REMOTE_CDROM, ("disk", "network"), ["cd", "disk", "network"]),
    (BootDevice.BIOS, ("disk", "network"), ["disk", "network", "cd"]),
]


@pytest.mark.parametrize(("device", "usual", "expected"), ORDERS)
def test_boot_order(device, usual, expected):
    assert qemu.Boot(Override(device)).order(usual) == expected


def command_line(boot: qemu.Boot | None = None, **options) -> str:
    spec = MachineSpec("n1", **options)
    taps = tuple(f"tap0n{i}" for i in range(spec.nics))
    disks = tuple((Path(f"/d/disk{i}.qcow2"), "qcow2") for i in range(spec.disks))
    wiring = qemu.Wiring(Path("/d,1"), taps, disks, ("-accel", "tcg"), 5, 6)
    return " ".join(qemu.arguments(spec, wiring, boot or qemu.Boot()))


LINES = [  # options                                   in the line, not in the line
    ({"firmware": "bios"}, ["virtio-net-pci,netdev=net0", "bootindex=101"], ["pflash", "romfile="]),
    ({"firmware": "uefi"}, ["OVMF_CODE_4M.fd", "file=/d,,1/vars.fd", "bootindex=101,romfile="], []),
    ({"firmware": "uefi", "secure_boot": "snakeoil"}, ["OVMF_CODE_4M.secboot.fd", "smm=on", "secure,value=on"], []),
    ({"firmware": "uefi", "oprom": True}, ["OVMF_CODE_4M.fd"], ["romfile="]),
    (
        {"disk": "ahci", "disks": 2},
        ["ide-hd,bus=ahci0.0", "ide-hd,bus=ahci0.1,drive=d1", "bootindex=2"],
        ["virtio-blk"],
    ),
    ({"disk": "nvme"}, ["nvme,drive=d0,serial=SN-N1-D0"], []),
    ({"disk": "scsi"}, ["virtio-scsi-pci", "scsi-hd,bus=scsi0.0,scsi-id=0"], []),
    ({"kcs": True}, ["isa-ipmi-kcs,bmc=bmc0", "socket,id=ipmi0,path=kcs.sock"], []),
    ({}, ["virtio-blk-pci"], ["ipmi"]),
    ({"nic": "e1000e", "nics": 2}, ["e1000e,netdev=net0", "ifname=tap0n1", "mac=52:54:00:90:00:41"], []),
]


@pytest.mark.parametrize(("options", "there", "absent"), LINES)
def test_command_line(options, there, absent):
    line = command_line(**options)
    assert all(text in line for text in there), line
    assert not any(text in line for text in absent), line
    assert "-action reboot=shutdown" in line
    assert "serial=SN-N1" in line


def test_network_first_after_an_override_and_cd():
    line = command_line(qemu.Boot(Override(BootDevice.PXE), Path("/d/cd0.iso")))
    assert "mac=52:54:00:90:00:01,bootindex=1" in line
    assert "drive=d0,serial=SN-N1-D0,bootindex=101" in line
    assert "ide-cd,drive=cd0,bus=cdbus.0,bootindex=201" in line


def test_http_boot_takes_pxe_away():
    line = command_line(qemu.Boot(Override(BootDevice.PXE, url="http://s/x.efi")), firmware="uefi")
    assert "IPv4PXESupport,string=n" in line


def test_spec_survives_the_way_inside():
    spec = RackSpec(machines(3, ("uefi",), disk="nvme", boot_order=("network",)))
    assert spec_from_json(spec_to_json(spec)) == spec


def test_machines_are_told_apart():
    made = machines(64)
    for field in ("name", "mac", "bmc_address", "uuid", "serial"):
        assert len({getattr(m, field) for m in made}) == 64
    RackSpec(made)
    with pytest.raises(ValueError, match="same mac"):
        RackSpec((made[0], dataclasses.replace(made[1], mac=made[0].mac)))
    with pytest.raises(ValueError, match="none of bios, uefi"):
        MachineSpec("n", firmware="coreboot")


BMC_FAULTS = sorted(f for f in faults.FAULTS if f.startswith(("bmc-", "power-", "boot-")) and f != "bmc-ok")


@pytest.mark.parametrize("fault", BMC_FAULTS)
def test_every_bmc_fault_changes_something_and_is_healed(fault):
    chassis = MemoryChassis()
    virtual = VirtualBmc(diskless_bmc(chassis), "127.0.0.1", 0)

    def state() -> tuple[object, ...]:
        return (
            dataclasses.astuple(virtual.faults),
            dataclasses.astuple(virtual.bmc.quirks),
            virtual.bmc.max_sessions,
            chassis.delay_s,
        )

    healthy = state()
    faults.apply(virtual, chassis, fault)
    assert state() != healthy
    faults.apply(virtual, chassis, "bmc-ok")
    assert state() == healthy


def test_no_such_fault():
    with pytest.raises(UsageError):
        faults.apply(VirtualBmc(diskless_bmc(MemoryChassis()), "127.0.0.1", 0), MemoryChassis(), "flood")


@pytest.mark.parametrize("name", profiles())
def test_profiles_are_well_formed(name):
    bmc = diskless_bmc(MemoryChassis())
    profile(name).apply(bmc)
    bmc.identity = profile(name).identify(bmc.identity)
    assert profile(name).about
    assert bmc.suites
    assert (bmc.quirks == Quirks()) is (not profile(name).quirks)


def test_no_such_profile():
    with pytest.raises(NotFound, match="iLO9"):
        profile("iLO9")


def test_fleet_addresses_and_broken_ones():
    spec = FleetSpec(500, broken={"bmc-silent": 50})
    assert spec.addresses[0] == "127.62.0.1"
    assert spec.addresses[254] == "127.62.1.1"
    assert len(set(spec.addresses)) == 500
    fleet = build(spec)
    assert sum(v.faults.silent for v in fleet) == 50
    assert not any(v.faults.silent for v in fleet[1:10])
    with pytest.raises(UsageError):
        FleetSpec(2, broken={"bmc-silent": 3})
    with pytest.raises(UsageError):
        FleetSpec(2, broken={"flood": 1})
