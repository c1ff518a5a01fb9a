"""Drives that can do what no drive of QEMU can: ATA Sanitize and Security Erase, NVMe Sanitize. A file is their medium.

They stand where the kernel's SG_IO and NVMe ioctls are, read the very bytes that would go to a drive, and keep its
state by ACS-4 §7.28, §7.42 to 7.48 and NVM Express Base 1.4 §5.14.1.16.2, §5.23, §5.24.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from baremetal.agents import ata, nvme

ABORTED = (0x51, 0x04)  # status: ready, error; error: ABRT
FINE = (0x50, 0)


class Medium:
    """A file; `forget` is the drive's own erase, `forgets` False makes it a liar."""

    def __init__(self, path: Path) -> None:
        self.path, self.forgets = path, True
        self.log: list[str] = []

    def forget(self) -> None:
        if self.forgets:
            size = self.path.stat().st_size
            self.path.write_bytes(b"")
            os.truncate(self.path, size)


class AtaDrive(Medium):
    """`trouble`: "frozen", "erase" (ERASE UNIT fails), "sanitize" (ends with an error), "key" (keeps its password)."""

    def __init__(self, path: Path, *, sanitize: int = 0, security: int = 0, trouble: str = "") -> None:
        """`sanitize`: bits of IDENTIFY word 59; `security`: of word 128."""
        super().__init__(path)
        self.sanitize, self.security, self.trouble = sanitize, security, trouble
        self.password: bytes | None = None
        self.prepared = False
        self.left = 0  # more looks that see the sanitize in progress

    def ioctl(self, _fd: int, request: int, header: bytearray) -> int:
        assert request == ata.SG_IO
        fields = list(ata._HEADER.unpack(header))
        data, cdb, sense = fields[6:9]
        command = ctypes.string_at(cdb, 16)
        out = ctypes.string_at(data, 512) if command[1] >> 1 == ata.DATA_OUT else b""
        (status, error), count, lba, into = self.obey(command, out)
        if into:
            ctypes.memmove(data, into, 512)
        if status & 1 or command[2] & 0x20:  # an error, or the task file was asked for
            low = [lba >> shift & 0xFF for shift in (24, 0, 32, 8, 40, 16)]
            tail = bytes([0x09, 12, 0, error, count >> 8, count & 0xFF, *low, 0, status])
            ctypes.memmove(sense, bytes([0x72, 0, 0, 0, 0, 0, 0, 14]) + tail, 22)
            fields[13], fields[18] = 2, 8  # check condition, driver sense
        header[:] = ata._HEADER.pack(*fields)
        return 0

    def obey(self, cdb: bytes, out: bytes) -> tuple[tuple[int, int], int, int, bytes]:
        """(status and error, count, lba, data) of one command."""
        code, feature = cdb[14], cdb[3] << 8 | cdb[4]
        lba = int.from_bytes(bytes(cdb[n] for n in (11, 9, 7, 12, 10, 8)), "big")
        self.log.append(f"{code:02x}" + (f":{feature:02x}" if code == ata.SANITIZE else ""))
        prepared, self.prepared = self.prepared, code == ata.ERASE_PREPARE
        if code == ata.IDENTIFY:
            return FINE, 0, 0, self.page()
        if code == ata.SANITIZE:
            return (*self.sanitized(feature, lba), b"")
        if self.trouble == "frozen" or (code == ata.ERASE_UNIT and not prepared):
            return ABORTED, 0, 0, b""
        return self.secured(code, out), 0, 0, b""

    def page(self) -> bytes:
        words = [0] * 256
        words[59] = self.sanitize
        words[128] = self.security | (2 if self.password else 0) | (8 if self.trouble == "frozen" else 0)
        return struct.pack("<256H", *words)

    def sanitized(self, feature: int, lba: int) -> tuple[tuple[int, int], int, int]:
        if feature != ata.SANITIZE_STATUS:
            keys = {ata.CRYPTO_SCRAMBLE: b"Cryp", ata.BLOCK_ERASE: b"BkEr"}
            if (lba & 0xFFFFFFFF).to_bytes(4, "big") != keys.get(feature):
                return ABORTED, 0, 0
            self.left = 2
            self.forget()
        elif self.left:
            self.left -= 1
        if self.left:
            return FINE, 1 << 14, 0x8000
        return FINE, 0 if self.trouble == "sanitize" else 1 << 15, 0

    def secured(self, code: int, out: bytes) -> tuple[int, int]:
        given = out[2:34]
        if code == ata.SET_PASSWORD:
            self.password = given
        elif code == ata.ERASE_PREPARE:
            return FINE
        elif code in (ata.UNLOCK, ata.DISABLE_PASSWORD):
            if given != self.password:
                return ABORTED
            self.password = None if code == ata.DISABLE_PASSWORD else self.password
        elif code == ata.ERASE_UNIT:
            if given != self.password or self.trouble == "erase" or (out[0] & 2 and not self.security & 1 << 5):
                return ABORTED
            self.forget()
            self.password = self.password if self.trouble == "key" else None
        return FINE


class NvmeDrive(Medium):
    """`sanicap` of its Identify page; `ends`: status that its sanitize ends with; `flbas`, `dps` of its namespace."""

    def __init__(self, path: Path, *, sanicap: int = 0, ends: int = 1, flbas: int = 0, dps: int = 0) -> None:
        super().__init__(path)
        self.sanicap, self.ends, self.flbas, self.dps = sanicap, ends, flbas, dps
        self.looks = 0
        self.refuses = False  # says in its Identify page that it can sanitize, and cannot

    def ioctl(self, _fd: int, request: int, command: bytearray) -> int:
        assert request == nvme.ADMIN_CMD
        fields = nvme._COMMAND.unpack(command)
        opcode, nsid, address, length, dw10 = fields[0], fields[3], fields[7], fields[9], fields[10]
        self.log.append(f"{opcode:02x}:{nsid:x}:{dw10:x}")
        page = bytearray(4096)
        if opcode == nvme.IDENTIFY and dw10 == 1:
            struct.pack_into("<H", page, 256, 2)  # Format NVM
            struct.pack_into("<I", page, 328, self.sanicap)
        elif opcode == nvme.IDENTIFY:
            page[26], page[29] = self.flbas, self.dps
        elif opcode == nvme.GET_LOG:
            self.looks += 1
            struct.pack_into("<HH", page, 0, 0x4000 * self.looks, 2 if self.looks < 3 else self.ends)
        elif opcode == nvme.SANITIZE:
            if self.refuses:
                return 0x1  # Invalid Command Opcode
            self.forget()
        elif opcode == nvme.FORMAT:
            self.flbas = dw10 & 0xF | (dw10 >> 4 & 1) << 4 | (dw10 >> 12 & 3) << 5
            self.dps = dw10 >> 5 & 7 | (dw10 >> 8 & 1) << 3
            self.forget()
        if length:
            ctypes.memmove(address, bytes(page[:length]), length)
        return 0
