"""A machine without a BMC: somebody walks there. Everything is refused with what to do by hand."""

from __future__ import annotations

from collections.abc import Sequence

from baremetal.bmc.base import BootDevice, BootPlan, Cap, ConsoleStream, Identity, LogRecord, PowerOp, Reading, User
from baremetal.bmc.faults import BmcUnsupported
from baremetal.model.node import Power

WORDS = {
    PowerOp.ON: "switch it on",
    PowerOp.OFF: "switch it off",
    PowerOp.SOFT: "shut it down",
    PowerOp.RESET: "press its reset button",
    PowerOp.CYCLE: "switch it off and on",
    PowerOp.DIAG: "send it an NMI",
}


class ManualDriver:
    """`manual://name`: identity and power are unknown, the person is told what to press."""

    caps: frozenset[Cap] = frozenset()

    def __init__(self, name: str) -> None:
        self.name = name

    async def identify(self) -> Identity:
        return Identity()

    async def power(self) -> Power:
        return Power.UNKNOWN

    async def set_power(self, op: PowerOp) -> None:
        raise self._by_hand(WORDS[op])

    async def get_boot(self) -> BootPlan:
        return BootPlan(BootDevice.NONE, once=False)

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        raise self._by_hand(f"choose {device} in its boot menu")

    async def sensors(self) -> Sequence[Reading]:
        return ()

    async def events(self, since: str | None = None) -> Sequence[LogRecord]:
        return ()

    async def clear_events(self) -> None:
        raise self._by_hand("clear its event log in the firmware setup")

    async def locate(self, on: bool, seconds: int | None = 15) -> None:
        raise self._by_hand("press its identify button")

    async def users(self) -> Sequence[User]:
        return ()

    async def set_password(self, user: str, password: bytes) -> None:
        raise self._by_hand("change the password in its firmware setup")

    async def reset_bmc(self) -> None:
        raise self._by_hand("pull its plug")

    async def console(self) -> ConsoleStream:
        raise self._by_hand("connect a monitor")

    async def close(self) -> None:
        return

    def _by_hand(self, what: str) -> BmcUnsupported:
        return BmcUnsupported(
            f"{self.name} has no BMC: {what} by hand", fix=f"{what}; the program goes on when the machine calls"
        )
