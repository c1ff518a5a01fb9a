"""What a virtual rack is made of: machines and one provisioning network. Data only."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

#: IEEE's locally administered range; QEMU's customary prefix.
_MAC = "52:54:00:90:{hi:02x}:{lo:02x}"
_NAMESPACE = uuid.UUID("4c4c4544-0000-4000-8000-000000000000")

NICS = ("virtio", "e1000", "e1000e")
DISKS = ("virtio", "ahci", "nvme", "scsi")
FIRMWARES = ("bios", "uefi")
KEYS = ("", "microsoft", "snakeoil")


@dataclass(frozen=True)
class MachineSpec:
    """One machine. Sizes in GiB and MiB; `mac` is of the first NIC, further NICs count up its last byte.

    `oprom`: the NIC carries QEMU's iPXE option ROM. Without it a UEFI machine
    boots by OVMF's own PXE stack, as servers do; a BIOS machine always needs it,
    and so does a NIC other than virtio.
    `kcs`: the system inside reaches the BMC too, at the standard I/O port.
    `secure_boot` names the keys in a UEFI machine's firmware: microsoft, snakeoil
    (whose private key Debian ships, for tests), or none.
    `boot_order` is what the firmware tries when no override is set.
    """

    name: str
    firmware: str = "bios"
    mac: str = "52:54:00:90:00:01"
    disk_gib: float = 4.0
    memory_mib: int = 1024
    bmc_address: str = "10.91.0.11"
    bmc_user: str = "admin"
    bmc_password: str = "secret"  # noqa: S105 - of a virtual BMC in a private network
    nic: str = "virtio"
    disk: str = "virtio"
    oprom: bool = False
    disks: int = 1
    nics: int = 1
    cpus: int = 1
    boot_order: tuple[str, ...] = ("disk", "network")
    vendor: str = "Lab"
    product: str = "VNode"
    profile: str = "plain"
    kcs: bool = False
    secure_boot: str = ""

    def __post_init__(self) -> None:
        kinds = ((self.firmware, FIRMWARES), (self.nic, NICS), (self.disk, DISKS), (self.secure_boot, KEYS))
        for value, known in kinds:
            if value not in known:
                raise ValueError(f"{self.name}: {value!r} is none of {', '.join(filter(None, known))}")

    @property
    def uuid(self) -> uuid.UUID:
        """SMBIOS UUID, the same at each start."""
        return uuid.uuid5(_NAMESPACE, self.name)

    @property
    def serial(self) -> str:
        """SMBIOS serial number."""
        return "SN-" + self.name.upper()

    @property
    def macs(self) -> tuple[str, ...]:
        """MAC of each NIC."""
        head, last = self.mac.lower().rsplit(":", 1)
        return tuple(f"{head}:{(int(last, 16) + 0x40 * i) & 0xFF:02x}" for i in range(self.nics))

    @property
    def needs_oprom(self) -> bool:
        """Does the NIC get its iPXE ROM? OVMF has a network driver of its own for virtio only."""
        return self.oprom or self.firmware == "bios" or self.nic != "virtio"


@dataclass(frozen=True)
class RackSpec:
    """Machines on one bridge. `server` is the provisioning server's address on it, `ula` its IPv6 one.

    `redfish`: the BMCs speak Redfish on port 443 beside IPMI.
    """

    nodes: tuple[MachineSpec, ...] = ()
    bridge: str = "prov0"
    server: str = "192.168.90.1"
    cidr: str = "192.168.90.0/24"
    ula: str = "fd90::1/64"
    redfish: bool = True
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in ("name", "mac", "bmc_address"):
            values = [getattr(node, what) for node in self.nodes]
            if twice := {v for v in values if values.count(v) > 1}:
                raise ValueError(f"two machines have the same {what}: {', '.join(sorted(twice))}")


def machines(count: int, firmwares: tuple[str, ...] = FIRMWARES, **options: object) -> tuple[MachineSpec, ...]:
    """`count` machines node-0, node-1, … taking the firmwares in turn; options as of MachineSpec."""
    return tuple(
        MachineSpec(
            name=f"node-{i}",
            firmware=firmwares[i % len(firmwares)],
            mac=_MAC.format(hi=(i + 1) >> 6, lo=(i + 1) & 0x3F),
            bmc_address=f"10.91.{(i + 11) >> 8}.{(i + 11) & 0xFF}",
            **options,  # type: ignore[arg-type]
        )
        for i in range(count)
    )
