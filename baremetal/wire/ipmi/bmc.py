"""The state of one BMC: who it is, who may log in, what it controls. No I/O.

`Chassis` is the machine behind it. Server (server.py) and commands read and
change this state; a Redfish face may share it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Protocol

from baremetal.wire.ipmi import fru, sdr
from baremetal.wire.ipmi.bootopts import BootOptions
from baremetal.wire.ipmi.codes import ChassisControl
from baremetal.wire.ipmi.quirks import Quirks
from baremetal.wire.ipmi.sel import Sel
from baremetal.wire.ipmi.sol import Line
from baremetal.wire.ipmi.users import Users, one_admin


class Chassis(Protocol):
    """What a BMC controls. Both return at once; an order is carried out later."""

    def powered(self) -> bool:
        """Is the system on?"""
        ...

    def control(self, order: ChassisControl) -> None:
        """Carry out a power order; it was checked to make sense in the present state."""
        ...


@dataclass(frozen=True)
class Identity:
    """Who the BMC says it is. `manufacturer` is an IANA enterprise number; `guid_order` how UUID bytes go out.

    Most firmware sends the SMBIOS order (first three fields little-endian), some
    the order of RFC 4122, few the specification's own (all reversed).
    """

    name: str = "bmc"
    vendor: str = "Lab"
    product: str = "VNode"
    serial: str = "SN0"
    uuid: uuid.UUID = field(default_factory=uuid.uuid4)
    manufacturer: int = 0x1BF2
    product_id: int = 0x0101
    firmware: tuple[int, int] = (2, 0x17)
    mac: str = "02:00:00:00:00:01"
    guid_order: str = "smbios"

    @property
    def guid(self) -> bytes:
        """The 16 bytes of Get System GUID."""
        if self.guid_order == "rfc4122":
            return self.uuid.bytes
        return self.uuid.bytes[::-1] if self.guid_order == "ipmi" else self.uuid.bytes_le


@dataclass
class LanConfig:
    """LAN parameters as the operator reads them. Dotted quads; `prefix` in bits."""

    address: str = "127.0.0.1"
    prefix: int = 24
    gateway: str = "0.0.0.0"  # noqa: S104 - "none", as firmware writes it
    community: str = "public"
    extra: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Bmc:
    """Everything a BMC remembers. Times are Unix seconds.

    `sol` is the serial line while somebody has activated it, `sol_ousted` one
    whose owner must still be told that it is gone.
    """

    chassis: Chassis
    identity: Identity = field(default_factory=Identity)
    users: Users = field(default_factory=lambda: one_admin("admin", "password"))
    lan: LanConfig = field(default_factory=LanConfig)
    boot: BootOptions = field(default_factory=BootOptions)
    quirks: Quirks = field(default_factory=Quirks)
    suites: tuple[int, ...] = (3, 17)
    kg: bytes = b""
    max_sessions: int = 4
    session_idle_s: float = 60.0
    fru: bytearray = field(default_factory=bytearray)
    sel: Sel = field(default_factory=Sel)
    sdrs: list[bytes] = field(default_factory=list)
    sensors: tuple[sdr.Sensor, ...] = sdr.SENSORS
    identify_until: float = 0.0
    restore_policy: int = 0
    restart_cause: int = 0
    last_power_event: int = 0
    intrusion: bool = False
    resets: int = 0
    sol_baud: int = 10
    sol_enabled: bool = True
    sol: Line | None = None
    sol_ousted: Line | None = None
    system_info: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        me = self.identity
        if not self.fru:
            self.fru = bytearray(fru.build(vendor=me.vendor, product=me.product, serial=me.serial))
        if not self.sdrs:
            self.sdrs = sdr.repository(me.name, self.sensors)
