"""NVMe admin commands through the kernel's ioctl: identify, health, format with erase.

NVM Express Base 1.4: §5.15 Identify, §5.14.1.2 SMART / Health log, §5.14.1.16.2 Sanitize Status, §5.23 Format NVM,
§5.24 Sanitize.
The packing is pure and tested; only `admin` talks to the device.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import time
from typing import Any, Callable, Dict, Optional, Tuple

from baremetal.agents.trouble import DiskIo

ADMIN_CMD = 0xC0484E41  # _IOWR('N', 0x41, struct nvme_admin_cmd), linux/nvme_ioctl.h
IDENTIFY, GET_LOG, FORMAT, SANITIZE = 0x06, 0x02, 0x80, 0x84
BLOCK_ERASE, CRYPTO_ERASE = 2, 4  # Sanitize Action
USER_DATA, CRYPTO = 1, 2  # Secure Erase Settings of Format NVM
_COMMAND = struct.Struct("<BBHIIIQQIIIIIIIIII")  # struct nvme_passthru_cmd, 72 bytes
FORMAT_TIMEOUT_MS = 4 * 3600 * 1000


def is_nvme(name: str) -> bool:
    return name.startswith("nvme")


def admin(path: str, opcode: int, nsid: int, length: int = 0, dw10: int = 0, timeout_ms: int = 10_000) -> bytes:
    """One admin command that reads `length` bytes; OSError, or DiskIo with the drive's status."""
    buffer = ctypes.create_string_buffer(max(length, 1))
    address = ctypes.addressof(buffer) if length else 0
    command = bytearray(
        _COMMAND.pack(opcode, 0, 0, nsid, 0, 0, 0, address, 0, length, dw10, 0, 0, 0, 0, 0, timeout_ms, 0)
    )
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = fcntl.ioctl(fd, ADMIN_CMD, command)
    finally:
        os.close(fd)
    if status:
        raise DiskIo(f"{path}: NVMe command 0x{opcode:02x} ended with status 0x{status:x}", disk=path, status=status)
    return buffer.raw[:length]


def health(path: str) -> Optional[Dict[str, Any]]:
    """Wear and temperature, None when the drive does not say."""
    try:
        return parse_health(admin(path, GET_LOG, 0xFFFFFFFF, 512, 0x02 | (512 // 4 - 1) << 16))
    except (OSError, DiskIo):
        return None


def parse_health(log: bytes) -> Dict[str, Any]:
    """Figures of the SMART / Health log. `wear_percent` may exceed 100; data in units of 512,000 bytes."""
    return {
        "critical_warning": log[0],
        "temperature_c": struct.unpack_from("<H", log, 1)[0] - 273,
        "spare_percent": log[3],
        "wear_percent": log[5],
        "data_written_units": int.from_bytes(log[48:64], "little"),
        "power_on_hours": int.from_bytes(log[128:144], "little"),
        "media_errors": int.from_bytes(log[160:176], "little"),
    }


def erase_setting(controller: bytes) -> Optional[int]:
    """The strongest Secure Erase Setting of an Identify Controller page: CRYPTO, USER_DATA, None without Format NVM."""
    commands = struct.unpack_from("<H", controller, 256)[0]  # OACS, bit 1: Format NVM
    if not commands & 0x2:
        return None
    return CRYPTO if controller[524] & 0x4 else USER_DATA  # FNA, bit 2: cryptographic erase


def sanitize_action(controller: bytes) -> Optional[int]:
    """The strongest Sanitize Action of an Identify Controller page (SANICAP), None without one."""
    can = struct.unpack_from("<I", controller, 328)[0]
    return CRYPTO_ERASE if can & 1 else BLOCK_ERASE if can & 2 else None


def secure_erase(path: str, tick: Callable[[int, int], None], namespace: int = 1) -> str:
    """The whole drive sanitized where it can and will, else the namespace formatted with erase; what was done.

    OSError or DiskIo when the drive can neither or fails. `tick(done, total)` while it runs.
    """
    controller = admin(path, IDENTIFY, 0, 4096, 1)
    action, setting = sanitize_action(controller), erase_setting(controller)
    if action is not None:
        try:
            admin(path, SANITIZE, 0, 0, action)
        except DiskIo:  # refused, nothing was begun: some drives promise more than they do
            if setting is None:
                raise
        else:
            return _sanitized(path, action, tick)
    if setting is None:
        raise DiskIo(f"{path}: the drive has neither Sanitize nor Format NVM", disk=path)
    in_use = admin(path, IDENTIFY, namespace, 4096, 0)
    admin(path, FORMAT, namespace, 0, format_as_it_is(in_use, setting), FORMAT_TIMEOUT_MS)
    return "nvme-format-crypto" if setting == CRYPTO else "nvme-format-erase"


def format_as_it_is(namespace: bytes, setting: int) -> int:
    """Dword 10 of Format NVM (§5.23, figure 330) that erases and leaves the namespace's format as it is.

    From its Identify page: block size (FLBAS), metadata at the end of a block or apart, protection information (DPS).
    """
    flbas, dps = namespace[26], namespace[29]
    metadata, protection, first = flbas >> 4 & 1, dps & 0x7, dps >> 3 & 1
    return flbas & 0xF | metadata << 4 | protection << 5 | first << 8 | setting << 9 | (flbas >> 5 & 0x3) << 12


def _sanitized(path: str, action: int, tick: Callable[[int, int], None]) -> str:
    """Wait for the sanitize that was begun. From here on nothing else will do: DiskIo when it fails."""
    while True:
        progress, status = parse_sanitize(admin(path, GET_LOG, 0xFFFFFFFF, 512, 0x81 | (512 // 4 - 1) << 16))
        if status in (1, 4):  # completed; 4: and deallocated nothing
            return "nvme-sanitize-crypto" if action == CRYPTO_ERASE else "nvme-sanitize-block"
        if status != 2:
            raise DiskIo(f"{path}: sanitize ended with status {status}", disk=path, status=status)
        tick(progress, 0x10000)
        time.sleep(1)


def parse_sanitize(log: bytes) -> Tuple[int, int]:
    """(progress of 65536, status: 1 done, 2 in progress, 3 failed) of the Sanitize Status log."""
    progress, status = struct.unpack_from("<HH", log, 0)
    return progress, status & 0x7


def namespace_of(name: str) -> int:
    """nvme0n1 -> 1."""
    tail = name.rpartition("n")[2]
    return int(tail) if tail.isdigit() else 1
