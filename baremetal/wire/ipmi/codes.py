"""The numbers of IPMI 2.0 that have names. Section numbers are of the IPMI v2.0 rev. 1.1 specification."""

from __future__ import annotations

from enum import IntEnum


class NetFn(IntEnum):
    """Network function of a request; the response is one higher (§5.1)."""

    CHASSIS = 0x00
    SENSOR = 0x04
    APP = 0x06
    STORAGE = 0x0A
    TRANSPORT = 0x0C


class Payload(IntEnum):
    """RMCP+ payload types (§13.27.3)."""

    IPMI = 0x00
    SOL = 0x01
    OPEN_REQUEST = 0x10
    OPEN_RESPONSE = 0x11
    RAKP1 = 0x12
    RAKP2 = 0x13
    RAKP3 = 0x14
    RAKP4 = 0x15


class Privilege(IntEnum):
    """Channel privilege levels (§6.8)."""

    CALLBACK = 1
    USER = 2
    OPERATOR = 3
    ADMIN = 4


class Completion(IntEnum):
    """Completion codes (§5.2)."""

    OK = 0x00
    PAYLOAD_ACTIVE_ELSEWHERE = 0x80
    PARAMETER_UNSUPPORTED = 0x80
    PRIVILEGE_TOO_HIGH = 0x81
    INVALID_SESSION = 0x87
    NODE_BUSY = 0xC0
    INVALID_COMMAND = 0xC1
    OUT_OF_SPACE = 0xC4
    RESERVATION_CANCELLED = 0xC5
    TRUNCATED = 0xC6
    BAD_LENGTH = 0xC7
    OUT_OF_RANGE = 0xC9
    TOO_MANY_BYTES = 0xCA
    NOT_PRESENT = 0xCB
    INVALID_FIELD = 0xCC
    PRIVILEGE = 0xD4
    WRONG_STATE = 0xD5


class Status(IntEnum):
    """RMCP+ and RAKP message status codes (table 13-15)."""

    OK = 0x00
    NO_RESOURCES = 0x01
    INVALID_SESSION = 0x02
    INVALID_ROLE = 0x09
    UNAUTHORIZED_ROLE = 0x0A
    INVALID_NAME_LENGTH = 0x0C
    UNAUTHORIZED_NAME = 0x0D
    INVALID_INTEGRITY = 0x0F
    NO_SUITE = 0x11
    ILLEGAL_PARAMETER = 0x12


class ChassisControl(IntEnum):
    """What Chassis Control orders (§28.3)."""

    OFF = 0
    ON = 1
    CYCLE = 2
    RESET = 3
    DIAG = 4
    SOFT = 5


class BootDevice(IntEnum):
    """Boot device selector of boot parameter 5, data 2 bits 5:2 (table 28-14)."""

    NONE = 0
    PXE = 1
    DISK = 2
    DISK_SAFE = 3
    DIAG = 4
    CDROM = 5
    BIOS = 6
    REMOTE_FLOPPY = 7
    REMOTE_CDROM = 8
    REMOTE_MEDIA = 9
    REMOTE_DISK = 11
    FLOPPY = 15
