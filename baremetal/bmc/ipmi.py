"""The IPMI driver: identity, power and boot by raw commands over a link.

Raw commands on the hot path: one datagram each way for a power status where
pyghmi's own `get_power` needs two. The link is pyghmi's session
(`pyghmilink.py`) or our own RMCP+ client (`rmcp.py`); this module knows neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from baremetal.bmc import completion
from baremetal.bmc.base import BootDevice, BootPlan, Cap, ConsoleStream, Identity, LogRecord, PowerOp, Reading, User
from baremetal.bmc.faults import BmcProtocol, BmcRefused, BmcUnsupported
from baremetal.bmc.link import APP, CHASSIS, TRANSPORT, IpmiLink
from baremetal.bmc.quirks import Quirks
from baremetal.model.node import Power

if TYPE_CHECKING:
    from baremetal.bmc import sdr

# Readers of FRU, SDR, SEL and accounts are imported where they are used: a power status needs none of them.

# Chassis Control, data byte 1 (IPMI 2.0 §28.3).
CONTROL = {
    PowerOp.OFF: 0,
    PowerOp.ON: 1,
    PowerOp.CYCLE: 2,
    PowerOp.RESET: 3,
    PowerOp.DIAG: 4,
    PowerOp.SOFT: 5,
}
# Boot flags, data byte 2, bits 5:2 (IPMI 2.0 §28.13, parameter 5).
SELECTOR = {
    BootDevice.NONE: 0,
    BootDevice.PXE: 1,
    BootDevice.DISK: 2,
    BootDevice.SAFE: 3,
    BootDevice.DIAG: 4,
    BootDevice.CDROM: 5,
    BootDevice.BIOS: 6,
    BootDevice.FLOPPY: 15,
}
DEVICE = {number: device for device, number in SELECTOR.items()}
VALID, PERSISTENT, EFI = 0x80, 0x40, 0x20


class IpmiDriver:
    """One BMC over IPMI 2.0."""

    caps = frozenset({Cap.POWER, Cap.BOOT, Cap.SENSORS, Cap.LOG, Cap.LOCATE, Cap.RESET, Cap.USERS})

    def __init__(self, link: IpmiLink, host: str, quirks: Quirks | None = None) -> None:
        self.link = link
        self.host = host
        self.quirks = quirks or Quirks()
        self._known = False
        self._sdr_cache: sdr.Repository | None = None

    async def ask(
        self, what: str, netfn: int, command: int, data: bytes = b"", *, least: int = 0, lun: int = 0
    ) -> bytes:
        """One command that must succeed and answer at least so many bytes."""
        answer = await self.link.command(netfn, command, data, lun)
        if answer.code:
            raise completion.error(self.host, what, answer.code)
        if len(answer.data) < least:
            raise BmcProtocol(
                f"{self.host}: answer too short: {what}",
                detail=f"{len(answer.data)} bytes, {least} expected: {answer.data.hex()}",
                stage="command",
            )
        return answer.data

    async def _know(self) -> bytes:
        """Get Device ID, and from it the quirks of this maker; once per driver for those who only need the quirks."""
        device = await self.ask("say who it is", APP, 0x01, least=11)
        self._known = True
        self.quirks = self.quirks.for_ipmi(
            int.from_bytes(device[6:9], "little") & 0xFFFFF, int.from_bytes(device[9:11], "little")
        )
        self.link.gap_s = max(self.link.gap_s, self.quirks.gap_s)
        return device

    async def identify(self) -> Identity:
        """Device id, system GUID, FRU of the board and product, BMC's MAC address."""
        from baremetal.bmc import fru, guid

        device = await self._know()
        manufacturer = int.from_bytes(device[6:9], "little") & 0xFFFFF
        product_id = int.from_bytes(device[9:11], "little")
        minor = f"{device[3] >> 4:x}{device[3] & 15:x}"
        uuid = await self._system_uuid()
        info = await fru.read(self, 0)
        return Identity(
            vendor=info.get("product_manufacturer") or info.get("board_manufacturer") or guid.vendor_name(manufacturer),
            product=info.get("product_name") or info.get("board_product"),
            serial=info.get("product_serial") or info.get("chassis_serial") or info.get("board_serial"),
            uuid=uuid,
            firmware=f"{device[2] & 0x7F}.{minor}",
            bmc_mac=await self._bmc_mac(),
            ipmi_version=f"{device[4] & 15}.{device[4] >> 4}",
            manufacturer_id=manufacturer,
            product_id=product_id,
            cipher=self.link.cipher,
            extra={key: value for key, value in info.items() if value},
        )

    async def power(self) -> Power:
        """Get Chassis Status, bit 0 of the first byte."""
        status = await self.ask("tell its power state", CHASSIS, 0x01, least=1)
        return Power.ON if status[0] & 1 else Power.OFF

    async def set_power(self, op: PowerOp) -> None:
        """Chassis Control; acknowledged is not done."""
        answer = await self.link.command(CHASSIS, 0x02, bytes([CONTROL[op]]))
        if answer.code == 0xD5:
            raise BmcRefused(
                f"{self.host}: BMC refused power {op} in the present state",
                detail="completion code D5h: cycle and reset need a machine that is on",
                fix="power it on instead",
                cause="state",
                stage="command",
            )
        if answer.code:
            raise completion.error(self.host, f"power {op}", answer.code)

    async def get_boot(self) -> BootPlan:
        """Boot option parameter 5."""
        if not self._known:
            await self._know()
        data = await self.ask("tell its boot device", CHASSIS, 0x09, bytes([5, 0, 0]), least=4)
        invalid, flags, second = data[1] & 0x80, data[2], data[3]
        if not self.quirks.loses_valid_bit and (invalid or not flags & VALID):
            return BootPlan(BootDevice.NONE, once=False, uefi=bool(flags & EFI))
        number = (second >> 2) & 15
        device = BootDevice.DISK if number in self.quirks.disk_selectors else DEVICE.get(number, BootDevice.OTHER)
        if device is BootDevice.NONE:
            return BootPlan(BootDevice.NONE, once=False, uefi=bool(flags & EFI))
        return BootPlan(device, once=not flags & PERSISTENT, uefi=bool(flags & EFI))

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        """Writes the boot flags so that they outlive the 60 s timer, then reads them back."""
        if device not in SELECTOR:
            raise BmcUnsupported(f"{self.host}: IPMI cannot boot from {device}", fix="use a Redfish URL for this BMC")
        if not self._known:
            await self._know()
        if uefi is None:
            uefi = bool((await self.get_boot()).uefi)
        await self._keep_flags()
        flags = (VALID if device is not BootDevice.NONE else 0) | (EFI if uefi else 0)
        if device is not BootDevice.NONE and (not once or self.quirks.always_persistent(uefi)):
            flags |= PERSISTENT
        selector = self.quirks.selector(device, uefi, SELECTOR[device])
        data = bytes([5, flags, selector << 2, 0, 0, 0])
        await self.ask(f"boot from {device}", CHASSIS, 0x08, data)
        return await self.get_boot()

    async def _keep_flags(self) -> None:
        """The valid bit would be cleared after 60 s without a chassis command, or by a button: switch that off.

        Parameter 3, bits 3 (timer) and 0 (button): other bits are left to the
        BMC. Some BMCs do not know the parameter; that is no reason to stop.
        """
        await self.link.command(CHASSIS, 0x08, bytes([3, 0x08]))

    async def sensors(self) -> Sequence[Reading]:
        """All sensors of the SDR repository; the repository is read once per firmware."""
        from baremetal.bmc import sdr

        if self._sdr_cache is None:
            self._sdr_cache = await sdr.load(self)
        return await sdr.readings(self, self._sdr_cache)

    async def events(self, since: str | None = None) -> Sequence[LogRecord]:
        """The SEL, incrementally when `since` is the last id seen."""
        from baremetal.bmc import sel

        return await sel.read(self, since)

    async def clear_events(self) -> None:
        from baremetal.bmc import sel

        await sel.clear(self)

    async def locate(self, on: bool, seconds: int | None = 15) -> None:
        """Chassis Identify: interval in seconds, or forced on."""
        if not on:
            await self.ask("switch its identify light off", CHASSIS, 0x04, bytes([0]))
        elif seconds is None:
            await self.ask("light its identify light", CHASSIS, 0x04, bytes([0, 1]))
        else:
            await self.ask("light its identify light", CHASSIS, 0x04, bytes([max(1, min(seconds, 255))]))

    async def users(self) -> Sequence[User]:
        from baremetal.bmc import ipmiusers

        return await ipmiusers.read(self)

    async def set_password(self, user: str, password: bytes) -> None:
        from baremetal.bmc import ipmiusers

        await ipmiusers.set_password(self, user, password)

    async def reset_bmc(self) -> None:
        """Cold Reset; the BMC need not answer it."""
        await self.ask("restart itself", APP, 0x02)

    async def console(self) -> ConsoleStream:
        raise BmcUnsupported(
            f"{self.host}: the console is not opened on this session",
            fix="open it by bmc.console.open_console: it has a session of its own",
        )

    async def keep_alive(self) -> None:
        """One command, so that the BMC does not forget the session; no session is opened for it."""
        if self.link.cipher is not None:
            await self.link.command(APP, 0x01)

    async def close(self) -> None:
        await self.link.close()

    async def _system_uuid(self) -> str | None:
        from baremetal.bmc import guid

        answer = await self.link.command(APP, 0x37)
        if answer.code or len(answer.data) < 16:
            return None
        return guid.smbios_text(answer.data[:16], self.quirks.guid_order)

    async def _bmc_mac(self) -> str | None:
        """LAN configuration parameter 5 of the channel we came by (0Eh)."""
        answer = await self.link.command(TRANSPORT, 0x02, bytes([0x0E, 5, 0, 0]))
        if answer.code or len(answer.data) < 7 or not any(answer.data[1:7]):
            return None
        return ":".join(f"{octet:02x}" for octet in answer.data[1:7])
