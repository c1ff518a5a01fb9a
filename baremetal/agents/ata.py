"""ATA commands through SG_IO: what a drive can, its health, and its own ways to erase itself.

ACS-4 §7.13 IDENTIFY DEVICE, §7.48 SMART, §7.28 SANITIZE DEVICE, §7.42 SECURITY …; SAT-4 §12.2 ATA PASS-THROUGH (16).
The packing is pure and tested; only `command` talks to the drive.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from baremetal.agents.trouble import DiskIo

SG_IO = 0x2285  # scsi/sg.h
NON_DATA, DATA_IN, DATA_OUT = 3, 4, 5  # PROTOCOL field of ATA PASS-THROUGH
_SG_NONE, _SG_TO, _SG_FROM = -1, -2, -3
_HEADER = struct.Struct("@iiBBHIPPPIIiPBBBBHHiII")  # struct sg_io_hdr
IDENTIFY, SMART, SANITIZE = 0xEC, 0xB0, 0xB4
SET_PASSWORD, UNLOCK, ERASE_PREPARE, ERASE_UNIT, DISABLE_PASSWORD = 0xF1, 0xF2, 0xF3, 0xF4, 0xF6
CRYPTO_SCRAMBLE, BLOCK_ERASE, OVERWRITE, SANITIZE_STATUS = 0x0011, 0x0012, 0x0014, 0x0000
_KEYS = {CRYPTO_SCRAMBLE: 0x43727970, BLOCK_ERASE: 0x426B4572}  # "Cryp", "BkEr": ACS-4 table 139
PASSWORD = b"baremetal"  # set and used up in one breath; the erase takes it off again
SMART_LBA = 0xC24F00
LONGEST_MS = 24 * 3600 * 1000


class Abilities(NamedTuple):
    """What IDENTIFY DEVICE says of erasing; `minutes` is the drive's own estimate, 0 when it gives none."""

    sanitize: List[int]
    security: bool
    enhanced: bool
    locked: bool
    frozen: bool
    minutes: int


class Answer(NamedTuple):
    """`data` read; `sectors` (its count field) and `lba` of the returned task file, 0 when the drive gave none."""

    data: bytes
    sectors: int
    lba: int


def abilities(identify: bytes) -> Abilities:
    """From the 512 bytes of IDENTIFY DEVICE: words 59 (sanitize), 89/90 (minutes), 128 (security)."""
    word = struct.unpack("<256H", identify[:512])
    sanitize = []
    if word[59] & 1 << 12:
        sanitize = [kind for bit, kind in ((13, CRYPTO_SCRAMBLE), (15, BLOCK_ERASE)) if word[59] & 1 << bit]
    state = word[128]
    estimate = word[90] if state & 1 << 5 else word[89]
    minutes = (estimate & 0x7FFF if estimate & 0x8000 else estimate & 0xFF) * 2
    return Abilities(
        sanitize, bool(state & 1), bool(state & 1 << 5), bool(state & 1 << 2), bool(state & 1 << 3), minutes
    )


def pass_through(code: int, protocol: int, feature: int = 0, count: int = 0, lba: int = 0, ext: bool = False) -> bytes:
    """The 16 bytes of ATA PASS-THROUGH (16). `ext`: a 48-bit command. Asks for the task file back."""
    ck_cond = 0x20 if protocol == NON_DATA else 0
    transfer = {NON_DATA: 0, DATA_IN: 0x0E, DATA_OUT: 0x06}[protocol]  # T_DIR, BYT_BLOK, T_LENGTH in count
    low = [lba >> shift & 0xFF for shift in (0, 8, 16)]
    high = [lba >> shift & 0xFF for shift in (24, 32, 40)]
    pairs = [v for h, lo in zip(high, low) for v in (h, lo)]
    head = [0x85, protocol << 1 | ext, ck_cond | transfer, feature >> 8, feature & 0xFF, count >> 8, count & 0xFF]
    return bytes([*head, *pairs, 0, code, 0])


def task_file(sense: bytes) -> "tuple[int, int, int, int]":
    """(status, error, count, lba) of an ATA Status Return descriptor (SAT-4 §12.2.2.6); zeros when there is none."""
    if len(sense) < 22 or sense[0] & 0x7F not in (0x72, 0x73) or sense[8] != 0x09:
        return 0, 0, 0, 0
    d = sense[8:22]
    lba = d[7] | d[9] << 8 | d[11] << 16 | d[6] << 24 | d[8] << 32 | d[10] << 40
    return d[13], d[3], d[4] << 8 | d[5], lba


def command(
    path: str,
    code: int,
    protocol: int,
    *,
    feature: int = 0,
    count: int = 0,
    lba: int = 0,
    ext: bool = False,
    out: bytes = b"",
    timeout_ms: int = 15_000,
) -> Answer:
    """One ATA command; OSError when the device takes none, DiskIo when the drive refuses it."""
    size = 512 if protocol != NON_DATA else 0
    buffer = ctypes.create_string_buffer(out.ljust(512, b"\0"), 512)
    cdb = ctypes.create_string_buffer(pass_through(code, protocol, feature, count, lba, ext), 16)
    sense = ctypes.create_string_buffer(64)
    direction = {NON_DATA: _SG_NONE, DATA_IN: _SG_FROM, DATA_OUT: _SG_TO}[protocol]
    header = bytearray(
        _HEADER.pack(
            ord("S"), direction, 16, 64, 0, size, ctypes.addressof(buffer), ctypes.addressof(cdb),
            ctypes.addressof(sense), timeout_ms, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        )
    )  # fmt: skip
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, SG_IO, header)
    finally:
        os.close(fd)
    fields = _HEADER.unpack(header)
    scsi_status, host, driver = fields[13], fields[17], fields[18]
    status, error, got_count, got_lba = task_file(sense.raw)
    bad = host or (status & 0x21) or (scsi_status and not status)
    if bad:
        raise DiskIo(
            f"{path}: ATA command 0x{code:02x} was refused",
            detail=f"status 0x{status:02x} error 0x{error:02x} scsi 0x{scsi_status:02x} host {host} driver {driver}",
            disk=path,
        )
    return Answer(buffer.raw[:size], got_count, got_lba)


def identify(path: str) -> bytes:
    """The 512 bytes of IDENTIFY DEVICE."""
    return command(path, IDENTIFY, DATA_IN, count=1).data


def health(path: str) -> Optional[Dict[str, Any]]:
    """SMART figures, None when the drive does not say."""
    try:
        data = command(path, SMART, DATA_IN, feature=0xD0, count=1, lba=SMART_LBA).data
        verdict = command(path, SMART, NON_DATA, feature=0xDA, lba=SMART_LBA)
    except (OSError, DiskIo):
        return None
    return {**parse_smart(data), "failing": verdict.lba >> 8 & 0xFFFF == 0x2CF4}


# Attribute ids that most makers agree on: id -> (our name, from the raw value?). Wear ids count down from 100.
_RAW = {
    5: "reallocated_sectors",
    9: "power_on_hours",
    12: "power_cycles",
    187: "reported_uncorrectable",
    194: "temperature_c",
    197: "pending_sectors",
    198: "offline_uncorrectable",
    199: "crc_errors",
}
_WEAR = (231, 233, 202, 177, 173)  # SSD life left: first one that the drive has


def parse_smart(data: bytes) -> Dict[str, Any]:
    """Figures of SMART READ DATA: twelve bytes an attribute from byte 2 (30 of them)."""
    found: Dict[str, Any] = {}
    values: Dict[int, int] = {}
    for at in range(2, 362, 12):
        number, value = data[at], data[at + 3]
        raw = int.from_bytes(data[at + 5 : at + 11], "little")
        if number in _RAW:
            found[_RAW[number]] = raw & 0xFF if number == 194 else raw & 0xFFFFFFFF
        if number:
            values[number] = value
    wear = next((values[n] for n in _WEAR if n in values), None)
    found["wear_percent"] = max(0, 100 - wear) if wear is not None else None
    return found


def secure_erase(path: str, tick: Callable[[int, int], None]) -> str:
    """The drive erases itself: sanitize where it can, else the security feature set; the name of what was done.

    `tick(done, total)` while it runs. DiskIo when the drive has neither, is
    frozen or locked, or ends with an error.
    """
    can = abilities(identify(path))
    if can.sanitize:
        return _sanitize(path, can.sanitize[0], tick)
    if not can.security:
        raise DiskIo(f"{path}: the drive has neither sanitize nor secure erase", disk=path)
    if can.frozen or can.locked:
        state = "frozen by the firmware" if can.frozen else "locked with a password"
        raise DiskIo(f"{path}: the drive is {state} and refuses to erase itself", disk=path)
    return _security_erase(path, can)


def _sanitize(path: str, kind: int, tick: Callable[[int, int], None]) -> str:
    command(path, SANITIZE, NON_DATA, feature=kind, lba=_KEYS[kind], ext=True)
    while True:
        answer = command(path, SANITIZE, NON_DATA, feature=SANITIZE_STATUS, ext=True)
        if not answer.sectors & 1 << 14:  # SANITIZE OPERATION IN PROGRESS
            break
        tick(answer.lba & 0xFFFF, 0x10000)
        time.sleep(2)
    if not answer.sectors & 1 << 15:  # SANITIZE OPERATION COMPLETED WITHOUT ERROR
        raise DiskIo(f"{path}: sanitize ended with an error", detail=f"count 0x{answer.sectors:04x}", disk=path)
    return "ata-sanitize-crypto" if kind == CRYPTO_SCRAMBLE else "ata-sanitize-block"


def _security_erase(path: str, can: Abilities) -> str:
    """SECURITY SET PASSWORD, ERASE PREPARE, ERASE UNIT. A failed erase leaves no locked drive behind."""
    page = struct.pack("<H", 0) + PASSWORD.ljust(32, b"\0")
    command(path, SET_PASSWORD, DATA_OUT, count=1, out=page)
    patience = max(can.minutes * 60_000 * 3, 3600_000) if can.minutes else LONGEST_MS
    try:
        command(path, ERASE_PREPARE, NON_DATA)
        erase = struct.pack("<H", 2 if can.enhanced else 0) + PASSWORD.ljust(32, b"\0")
        command(path, ERASE_UNIT, DATA_OUT, count=1, out=erase, timeout_ms=min(patience, LONGEST_MS))
    except (OSError, DiskIo):
        for code in (UNLOCK, DISABLE_PASSWORD):
            try:
                command(path, code, DATA_OUT, count=1, out=page)
            except (OSError, DiskIo):
                continue
        raise
    if struct.unpack("<256H", identify(path)[:512])[128] & 1 << 1:  # SECURITY ENABLED: the erase did not finish
        raise DiskIo(f"{path}: the drive still has its erase password", disk=path)
    return "ata-secure-erase-enhanced" if can.enhanced else "ata-secure-erase"
