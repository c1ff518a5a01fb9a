"""What this machine is, from /sys and /proc, in the shape of Ironic's inventory.

Keys as ironic-python-agent sends them (cpu, memory, disks, interfaces,
system_vendor, boot …); what it lacks stands beside them. A part that cannot be
read is named in `errors`: one odd driver must not cost the whole inventory.
Writes nothing. Runs no programs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

if TYPE_CHECKING:
    from baremetal.agents.disks import Disk

MAX_FLAGS = 400  # words of /proc/cpuinfo flags
_DMI = {
    "product_name": "product_name",
    "serial_number": "product_serial",
    "manufacturer": "sys_vendor",
    "uuid": "product_uuid",
    "sku": "product_sku",
    "asset_tag": "chassis_asset_tag",
    "board_name": "board_name",
    "board_serial": "board_serial",
}


class Roots:
    """Where sysfs, procfs and devices are; a test points them elsewhere."""

    def __init__(self, sys: str = "/sys", proc: str = "/proc", dev: str = "/dev") -> None:
        self.sys, self.proc, self.dev = sys, proc, dev


def collect(roots: Optional[Roots] = None, bootif: Optional[str] = None) -> Dict[str, Any]:
    """The whole inventory. `bootif`: MAC of the NIC we booted from."""
    at = roots or Roots()
    errors: Dict[str, str] = {}

    def part(name: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as exc:  # whatever a driver's sysfs file does
            errors[name] = f"{type(exc).__name__}: {exc}"
            return None

    inventory = {
        "cpu": part("cpu", lambda: cpu(at)),
        "memory": part("memory", lambda: memory(at)),
        "disks": part("disks", lambda: [_disk(d) for d in _find(at)]) or [],
        "interfaces": part("interfaces", lambda: interfaces(at)) or [],
        "system_vendor": part("system_vendor", lambda: system_vendor(at)),
        "boot": part("boot", lambda: boot(at, bootif)),
        "numa": part("numa", lambda: numa(at)),
        "pci_devices": part("pci_devices", lambda: pci_devices(at)) or [],
        "tpm": part("tpm", lambda: tpm(at)),
        **(part("bmc", lambda: bmc(at)) or {"bmc_address": None, "bmc_mac": None, "bmc_v6address": None}),
        "kernel": _text(f"{at.proc}/sys/kernel/osrelease"),
    }
    if errors:
        inventory["errors"] = errors
    return inventory


def cpu(at: Roots) -> Dict[str, Any]:
    """Logical CPUs; frequency in MHz as text, as Ironic has it."""
    blocks = [b for b in _text(f"{at.proc}/cpuinfo", 4 << 20).split("\n\n") if b.strip()]
    infos = [dict(_pairs(b)) for b in blocks]
    first = infos[0] if infos else {}
    sockets = {i.get("physical id", "0") for i in infos}
    cores = {(i.get("physical id", "0"), i.get("core id", str(n))) for n, i in enumerate(infos)}
    return {
        "model_name": first.get("model name", ""),
        "frequency": _max_mhz(at) or first.get("cpu MHz", ""),
        "count": len(infos),
        "architecture": os.uname().machine,
        "flags": first.get("flags", "").split()[:MAX_FLAGS],
        "socket_count": len(sockets),
        "core_count": len(cores),
    }


def memory(at: Roots) -> Dict[str, Any]:
    """`total` in bytes as the kernel has it, `physical_mb` in MiB as DMI says it is fitted."""
    line = next(n for n in _text(f"{at.proc}/meminfo").splitlines() if n.startswith("MemTotal:"))
    total = int(line.split()[1]) * 1024
    return {"total": total, "physical_mb": _fitted_mib(at) or -(-total // (128 << 20)) * 128}


def _find(at: Roots) -> "List[Disk]":
    from baremetal.agents import disks  # late: hello needs none of them

    return disks.find(at.sys, at.dev)


def _disk(disk: "Disk") -> Dict[str, Any]:
    """With the drive's own view of its health, where we can ask for it."""
    found = disk.to_inventory()
    from baremetal.agents import ata, foreign, nvme  # late: ctypes

    found["health"] = None
    if disk.transport == "nvme":
        found["health"] = nvme.health(disk.path)
    elif disk.transport == "sata":
        found["health"] = ata.health(disk.path)
    found["content"] = foreign.content(disk.path) if not disk.refusal else None
    return found


def bmc(at: Roots) -> Optional[Dict[str, Any]]:
    """The BMC as it says from inside, Ironic's key names."""
    from baremetal.agents import ipmidev  # late: ctypes

    return ipmidev.find(at.dev)


def interfaces(at: Roots) -> List[Dict[str, Any]]:
    """Every NIC of hardware: no bridges, no loopback, no tunnels."""
    return [_interface(f"{at.sys}/class/net/{name}", name) for name in nics(at)]


def _interface(path: str, name: str) -> Dict[str, Any]:
    device = os.path.realpath(f"{path}/device")
    if os.path.basename(device).startswith("virtio"):
        device = os.path.dirname(device)
    speed = _text(f"{path}/speed")
    return {
        "name": name,
        "mac_address": _text(f"{path}/address").lower(),
        "permanent_mac_address": permanent_mac(name),
        "ipv4_address": ipv4_of(name),
        "has_carrier": _text(f"{path}/carrier") == "1",
        "speed_mbps": int(speed) if speed.isdigit() else None,
        "pci_address": os.path.basename(device) if os.path.basename(device).count(":") == 2 else None,
        "vendor": _text(f"{device}/vendor") or None,
        "product": _text(f"{device}/device") or None,
        "driver": os.path.basename(os.path.realpath(f"{path}/device/driver")),
        "mtu": int(_text(f"{path}/mtu") or 0) or None,
        "numa_node": _numa_node(device),
        "lldp": [],
    }


def ipv4_of(name: str) -> Optional[str]:
    """The address of an interface (SIOCGIFADDR), None when it has none."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def permanent_mac(name: str) -> Optional[str]:
    """The address burnt into the NIC (ETHTOOL_GPERMADDR, linux/ethtool.h), None when the driver does not say."""
    import array
    import fcntl
    import socket
    import struct

    buffer = array.array("B", struct.pack("II32s", 0x20, 32, b""))
    request = struct.pack("16sP", name.encode()[:15], buffer.buffer_info()[0]).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            fcntl.ioctl(probe.fileno(), 0x8946, request)  # SIOCETHTOOL
        except OSError:
            return None
    size = struct.unpack_from("I", buffer, 4)[0]
    raw = bytes(buffer[8 : 8 + size])
    return ":".join(f"{b:02x}" for b in raw) if size == 6 and any(raw) else None


def system_vendor(at: Roots) -> Dict[str, Any]:
    """DMI, as far as it is filled in."""
    base = f"{at.sys}/class/dmi/id"
    found: Dict[str, Any] = {key: _text(f"{base}/{name}") for key, name in _DMI.items()}
    found["firmware"] = {
        "vendor": _text(f"{base}/bios_vendor"),
        "version": _text(f"{base}/bios_version"),
        "build_date": _text(f"{base}/bios_date"),
    }
    return found


def boot(at: Roots, bootif: Optional[str]) -> Dict[str, Any]:
    """How it was started: bios or uefi, secure boot, from which NIC."""
    mode = firmware_mode(at)
    return {
        "current_boot_mode": mode,
        "pxe_interface": bootif,
        "secure_boot": secure_boot(at) if mode == "uefi" else False,
        **(boot_entries(at) if mode == "uefi" else {}),
    }


def boot_entries(at: Roots) -> Dict[str, Any]:
    """What the firmware would start, in its order."""
    from baremetal.agents import efiboot

    variables = efiboot.Variables(f"{at.sys}/firmware/efi/efivars")
    found = [{"number": f"{e.number:04X}", "label": e.label[:80], "active": e.active} for e in variables.entries()]
    return {"entries": found[:64], "order": [f"{n:04X}" for n in variables.order()[:64]]}


def firmware_mode(at: Roots) -> str:
    return "uefi" if os.path.isdir(f"{at.sys}/firmware/efi") else "bios"


def secure_boot(at: Roots) -> Optional[bool]:
    """None when the firmware does not say (efivarfs not mounted)."""
    name = f"{at.sys}/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    raw = _raw(name, 16)
    return bool(raw[4]) if len(raw) >= 5 else None


def system_uuid(at: Roots) -> Optional[str]:
    """DMI product UUID in lower case, None when the machine has none worth the name."""
    text = _text(f"{at.sys}/class/dmi/id/product_uuid").lower()
    return text if len(text) == 36 and text.strip("0-") and text.strip("f-") else None


def macs(at: Roots) -> List[str]:
    """Of all hardware NICs, lower case."""
    return [_text(f"{at.sys}/class/net/{n}/address").lower() for n in nics(at)]


def nics(at: Roots) -> List[str]:
    """Names of the hardware NICs, sorted."""
    base = f"{at.sys}/class/net"
    names = sorted(os.listdir(base)) if os.path.isdir(base) else []
    return [n for n in names if os.path.exists(f"{base}/{n}/device")]


def numa(at: Roots) -> List[Dict[str, Any]]:
    """Nodes with their CPUs, memory in KiB and distances."""
    base = f"{at.sys}/devices/system/node"
    names = (
        sorted(n for n in os.listdir(base) if n.startswith("node") and n[4:].isdigit()) if os.path.isdir(base) else []
    )
    out = []
    for name in names:
        lines = _text(f"{base}/{name}/meminfo").splitlines()
        total = next((int(line.split()[3]) for line in lines if "MemTotal:" in line), 0)
        distance = [int(d) for d in _text(f"{base}/{name}/distance").split()]
        out.append(
            {"node": int(name[4:]), "cpus": _text(f"{base}/{name}/cpulist"), "ram_kb": total, "distance": distance}
        )
    return out


def pci_devices(at: Roots) -> List[Dict[str, Any]]:
    """As Ironic's pci-devices collector: ids in hex without 0x."""
    base = f"{at.sys}/bus/pci/devices"
    names = sorted(os.listdir(base)) if os.path.isdir(base) else []
    return [_pci_device(f"{base}/{name}", name) for name in names[:2048]]


def _pci_device(path: str, name: str) -> Dict[str, Any]:
    driver = f"{path}/driver"
    return {
        "vendor_id": _text(f"{path}/vendor")[2:],
        "product_id": _text(f"{path}/device")[2:],
        "class": _text(f"{path}/class")[2:],
        "revision": _text(f"{path}/revision")[2:],
        "bus": name,
        "numa_node_id": _numa_node(path),
        "driver": os.path.basename(os.path.realpath(driver)) if os.path.exists(driver) else None,
    }


def tpm(at: Roots) -> Optional[Dict[str, Any]]:
    """The first TPM: major version and what it calls itself."""
    base = f"{at.sys}/class/tpm/tpm0"
    if not os.path.isdir(base):
        return None
    version = _text(f"{base}/tpm_version_major")
    return {"version": version, "description": _text(f"{base}/device/description") or None}


def _fitted_mib(at: Roots) -> int:
    """Sum of the memory devices of SMBIOS type 17 (DSP0134 §7.18), in MiB."""
    base = f"{at.sys}/firmware/dmi/entries"
    total = 0
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        raw = _raw(f"{base}/{name}/raw") if name.startswith("17-") else b""
        if len(raw) < 0x0E:
            continue
        size = int.from_bytes(raw[0x0C:0x0E], "little")
        if size == 0x7FFF and len(raw) >= 0x20:
            total += int.from_bytes(raw[0x1C:0x20], "little") & 0x7FFFFFFF
        elif size not in (0, 0xFFFF):
            total += (size & 0x7FFF) // 1024 if size & 0x8000 else size
    return total


def _max_mhz(at: Roots) -> str:
    khz = _text(f"{at.sys}/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return f"{int(khz) / 1000:.4f}" if khz.isdigit() else ""


def _numa_node(path: str) -> Optional[int]:
    text = _text(f"{path}/numa_node")
    return int(text) if text.isdigit() else None


def _pairs(block: str) -> List["tuple[str, str]"]:
    split = (line.partition(":") for line in block.splitlines())
    return [(key.strip(), value.strip()) for key, colon, value in split if colon]


def _raw(path: str, limit: int = 64 * 1024) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read(limit)
    except OSError:
        return b""


def _text(path: str, limit: int = 64 * 1024) -> str:
    return _raw(path, limit).decode("utf-8", "replace").strip(" \n\0\t")
