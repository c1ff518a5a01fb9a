"""What a BMC is to the rest of the program: one protocol, many drivers.

Drivers only talk to their BMC; what none of them should repeat (deadlines, one
command at a time, reading back, backoff, circuit breaker) stands above them in
`careful.py` and `pool.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from baremetal.bmc.faults import (
    BmcAuth,
    BmcBusy,
    BmcCipher,
    BmcError,
    BmcLied,
    BmcPrivilege,
    BmcProtocol,
    BmcRefused,
    BmcTimeout,
    BmcTls,
    BmcUnreachable,
    BmcUnsupported,
)
from baremetal.model.node import Power

__all__ = [
    "OPTIONAL",
    "BiosSettings",
    "BmcAuth",
    "BmcBusy",
    "BmcCipher",
    "BmcDriver",
    "BmcError",
    "BmcLied",
    "BmcPrivilege",
    "BmcProtocol",
    "BmcRefused",
    "BmcTimeout",
    "BmcTls",
    "BmcUnreachable",
    "BmcUnsupported",
    "BootDevice",
    "BootPlan",
    "Cap",
    "ConsoleStream",
    "Firmware",
    "HttpBoot",
    "Identity",
    "LogRecord",
    "NicList",
    "Power",
    "PowerOp",
    "Reading",
    "SecureBoot",
    "User",
    "VirtualMedia",
]


class PowerOp(StrEnum):
    """What can be asked of the power button."""

    ON = "on"
    OFF = "off"
    SOFT = "soft"
    RESET = "reset"
    CYCLE = "cycle"
    DIAG = "diag"


class BootDevice(StrEnum):
    """Where the next boot comes from. NONE: no override, the firmware's own order."""

    NONE = "none"
    PXE = "pxe"
    DISK = "disk"
    CDROM = "cdrom"
    BIOS = "bios"
    FLOPPY = "floppy"
    SAFE = "safe"
    DIAG = "diag"
    HTTP = "http"
    OTHER = "other"


class Cap(StrEnum):
    """What a driver can do for this BMC."""

    POWER = "power"
    BOOT = "boot"
    SENSORS = "sensors"
    LOG = "log"
    LOCATE = "locate"
    RESET = "reset"
    USERS = "users"
    CONSOLE = "console"
    VIRTUAL_MEDIA = "virtual-media"
    HTTP_BOOT = "http-boot"
    BIOS = "bios"
    FIRMWARE = "firmware"
    SECURE_BOOT = "secure-boot"
    NICS = "nics"
    AUDIT = "audit"


@dataclass(frozen=True)
class Identity:
    """Who the machine says it is. Placeholder values ("To be filled by O.E.M.", all zeros) are None.

    `uuid` is in SMBIOS text form, as `dmidecode` shows it. `bmc_mac` and
    `macs` are lower case with colons. `cipher` is the IPMI cipher suite of
    the session, to notice a silent downgrade later. `extra` holds small texts.
    """

    vendor: str | None = None
    product: str | None = None
    serial: str | None = None
    uuid: str | None = None
    firmware: str | None = None
    bmc_mac: str | None = None
    ipmi_version: str | None = None
    manufacturer_id: int | None = None
    product_id: int | None = None
    cipher: int | None = None
    macs: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BootPlan:
    """What the BMC says the next boot will be.

    `once`: forgotten after that boot. `uefi`: None when the BMC does not say.
    `url` is the image of an HTTP boot.
    """

    device: BootDevice
    once: bool = True
    uefi: bool | None = None
    url: str | None = None


@dataclass(frozen=True)
class Reading:
    """One sensor now. `value` is in `unit` (None: no reading); `state` is ok, warning, critical, absent or unknown.

    `thresholds` by name (lower_critical, upper_warning, …) in the same unit.
    `discrete` holds asserted states of sensors that have no number.
    """

    name: str
    kind: str
    unit: str = ""
    value: float | None = None
    state: str = "unknown"
    discrete: tuple[str, ...] = ()
    thresholds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LogRecord:
    """One line of the system event log. `time` is Unix seconds, None when the BMC has no clock yet."""

    id: str
    time: float | None
    sensor: str
    kind: str
    event: str
    severity: str = "info"
    asserted: bool = True


@dataclass(frozen=True)
class User:
    """One account slot of the BMC."""

    slot: str
    name: str
    privilege: str
    enabled: bool


# Optional methods by capability: what the protocols at the end of this file add to a driver.
OPTIONAL: dict[Cap, tuple[str, ...]] = {
    Cap.VIRTUAL_MEDIA: ("insert_media", "eject_media"),
    Cap.HTTP_BOOT: ("set_http_boot",),
    Cap.BIOS: ("bios", "set_bios"),
    Cap.FIRMWARE: ("firmware", "update_firmware"),
    Cap.SECURE_BOOT: ("secure_boot", "set_secure_boot"),
    Cap.NICS: ("nics",),
    # Not of the driver itself but of those above it: audit.py and passwords.py, run in the worker.
    Cap.AUDIT: ("audit", "change_password"),
}


class ConsoleStream(Protocol):
    """A serial console: bytes both ways until closed by either side."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def write(self, data: bytes) -> None: ...

    async def send_break(self) -> None: ...

    async def close(self) -> None: ...


@runtime_checkable
class BmcDriver(Protocol):
    """One BMC. Every method is a conversation with it and raises only BmcError."""

    @property
    def caps(self) -> frozenset[Cap]: ...

    async def identify(self) -> Identity:
        """Who are you? Also the proof that address, user and password are right."""
        ...

    async def power(self) -> Power:
        """On or off, as the BMC sees it now."""
        ...

    async def set_power(self, op: PowerOp) -> None:
        """Press the button. A bare driver returns when it is acknowledged, the pool's when it is seen done."""
        ...

    async def get_boot(self) -> BootPlan:
        """The boot override in force."""
        ...

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        """Set the boot override and say what is really set, as read back."""
        ...

    async def sensors(self) -> Sequence[Reading]:
        """All sensors with their readings now."""
        ...

    async def events(self, since: str | None = None) -> Sequence[LogRecord]:
        """The system event log, or what came after record `since`."""
        ...

    async def clear_events(self) -> None:
        """Empty the event log. Archive it first."""
        ...

    async def locate(self, on: bool, seconds: int | None = 15) -> None:
        """The identify light: on for so many seconds (None: until switched off), or off."""
        ...

    async def users(self) -> Sequence[User]:
        """The accounts of this BMC."""
        ...

    async def set_password(self, user: str, password: bytes) -> None:
        """Change an account's password; the caller logs in again to prove it."""
        ...

    async def reset_bmc(self) -> None:
        """Restart the BMC itself. It is silent for 30 to 180 s afterwards; the machine runs on."""
        ...

    async def console(self) -> ConsoleStream:
        """The serial console. One owner at a time."""
        ...

    async def close(self) -> None:
        """End the session; a slot left open stays taken for about a minute."""
        ...


@runtime_checkable
class VirtualMedia(Protocol):
    """A CD the BMC pretends to hold (Cap.VIRTUAL_MEDIA)."""

    async def insert_media(self, url: str) -> None:
        """Puts the image at this URL into the virtual CD drive."""
        ...

    async def eject_media(self) -> None:
        """Takes out whatever is in it."""
        ...


@runtime_checkable
class HttpBoot(Protocol):
    """UEFI HTTP boot by the BMC's word, without DHCP options (Cap.HTTP_BOOT)."""

    async def set_http_boot(self, url: str, *, once: bool = True) -> BootPlan:
        """The next boot fetches this URL."""
        ...


@runtime_checkable
class BiosSettings(Protocol):
    """Firmware settings (Cap.BIOS). A change is pending until the machine restarts."""

    async def bios(self) -> dict[str, str | int | bool]:
        """All attributes in force."""
        ...

    async def set_bios(self, changes: dict[str, str | int | bool]) -> None:
        """Makes changes pending."""
        ...


@runtime_checkable
class Firmware(Protocol):
    """Firmware of the machine's parts (Cap.FIRMWARE)."""

    async def firmware(self) -> dict[str, str]:
        """Versions by the part's name."""
        ...

    async def update_firmware(self, url: str) -> None:
        """The BMC fetches the image at this URL and installs it; returns when its task is done."""
        ...


@runtime_checkable
class SecureBoot(Protocol):
    """UEFI Secure Boot (Cap.SECURE_BOOT)."""

    async def secure_boot(self) -> bool:
        """Is it enforced?"""
        ...

    async def set_secure_boot(self, on: bool) -> None:
        """From the next boot on."""
        ...


@runtime_checkable
class NicList(Protocol):
    """MACs before the first boot (Cap.NICS)."""

    async def nics(self) -> tuple[str, ...]: ...
