"""A machine in memory, for simulations and tests: `fake://name` is one machine wherever it is opened.

It behaves as a real one does where that matters: an answer takes time, power
changes later than it is acknowledged, a one-shot boot override is consumed by
the start, credentials can be wrong, and it can be told to fail. Options of the
URL: latency_s, power_delay_s, password.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from baremetal.bmc.base import BootDevice, BootPlan, Cap, ConsoleStream, Identity, LogRecord, PowerOp, Reading, User
from baremetal.bmc.faults import BmcAuth, BmcBusy, BmcRefused, BmcUnreachable, BmcUnsupported
from baremetal.bmc.url import BmcUrl
from baremetal.model.node import Power

FAULTS = ("silent", "busy", "hung", "ignores-power", "ignores-soft", "forgets-boot")


@dataclass
class FakeMachine:
    """The machine and its knobs; times in seconds.

    `faults` holds names of FAULTS. `starts` lists the boot plan of every
    start; `on_start` and `on_stop` are called at the moment the machine really
    goes on or off, in the event loop of whoever looked or ordered.
    """

    name: str
    latency_s: float = 0.0
    power_delay_s: float = 0.0
    password: str | None = None
    powered: bool = False
    boot: BootPlan = field(default_factory=lambda: BootPlan(BootDevice.NONE, once=False, uefi=False))
    faults: set[str] = field(default_factory=set)
    starts: list[BootPlan] = field(default_factory=list)
    macs: tuple[str, ...] = ()
    on_start: Callable[[FakeMachine, BootPlan], None] | None = None
    on_stop: Callable[[FakeMachine], None] | None = None
    on_command: Callable[[FakeMachine], None] | None = None
    commands: int = 0
    log: list[LogRecord] = field(default_factory=list)
    identify_light: bool = False
    _pending: tuple[float, bool] | None = None

    @property
    def uuid(self) -> str:
        """Always the same for the same name."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"fake://{self.name}"))

    def order(self, on: bool, *, restart: bool = False) -> None:
        """Goes on or off after `power_delay_s`."""
        if restart and self.powered:
            self._switch(False)
        self._pending = (time.monotonic() + self.power_delay_s, on)
        self.settle()

    def settle(self) -> None:
        """Carries out what is due; called by every look, and by the simulation's own clock if it has one."""
        if self._pending and time.monotonic() >= self._pending[0]:
            on, self._pending = self._pending[1], None
            self._switch(on)

    def _switch(self, on: bool) -> None:
        if on == self.powered:
            return
        self.powered = on
        if on:
            plan = self.boot
            self.starts.append(plan)
            if plan.once:
                self.boot = BootPlan(BootDevice.NONE, once=False, uefi=plan.uefi)
            if self.on_start:
                self.on_start(self, plan)
        elif self.on_stop:
            self.on_stop(self)


_MACHINES: dict[str, FakeMachine] = {}


def machine(name: str) -> FakeMachine:
    """The machine of that name in this process, made at first sight (off)."""
    return _MACHINES.setdefault(name, FakeMachine(name))


def forget_all() -> None:
    """A clean bench for the next test."""
    _MACHINES.clear()


class FakeDriver:
    """`fake://name` with the manners of a real BMC."""

    caps = frozenset({Cap.POWER, Cap.BOOT, Cap.SENSORS, Cap.LOG, Cap.LOCATE, Cap.RESET, Cap.USERS})

    def __init__(self, url: BmcUrl, password: str) -> None:
        self.url = url
        self.machine = machine(url.host)
        self._given = password
        for name in ("latency_s", "power_delay_s"):
            if name in url.options:
                setattr(self.machine, name, url.option_float(name, 0.0))

    async def _ask(self) -> FakeMachine:
        it = self.machine
        it.commands += 1
        if it.on_command:
            it.on_command(it)
        if "hung" in it.faults:
            await asyncio.sleep(3600)
        await asyncio.sleep(it.latency_s)
        if "silent" in it.faults:
            raise BmcUnreachable(f"{it.name}: BMC silent", fix="take the fault away", cause="silent")
        if it.password is not None and it.password != self._given:
            raise BmcAuth(f"{it.name}: BMC refuses the password", fix="correct user and password", cause="password")
        if "busy" in it.faults:
            raise BmcBusy(f"{it.name}: BMC busy", fix="try again", cause="node")
        it.settle()
        return it

    async def identify(self) -> Identity:
        it = await self._ask()
        return Identity(
            vendor="Fake",
            product="Simulated machine",
            serial=f"FAKE-{it.name}",
            uuid=it.uuid,
            firmware="1.0",
            macs=it.macs,
        )

    async def power(self) -> Power:
        return Power.ON if (await self._ask()).powered else Power.OFF

    async def set_power(self, op: PowerOp) -> None:
        it = await self._ask()
        if op in (PowerOp.RESET, PowerOp.CYCLE, PowerOp.DIAG) and not it.powered:
            raise BmcRefused(f"{it.name}: machine is off", fix="power it on instead", cause="state")
        if "ignores-power" in it.faults or (op is PowerOp.SOFT and "ignores-soft" in it.faults):
            return
        if op is not PowerOp.DIAG:
            it.order(op not in (PowerOp.OFF, PowerOp.SOFT), restart=op in (PowerOp.RESET, PowerOp.CYCLE))

    async def get_boot(self) -> BootPlan:
        return (await self._ask()).boot

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        it = await self._ask()
        if "forgets-boot" not in it.faults:
            it.boot = BootPlan(
                device, once=once and device is not BootDevice.NONE, uefi=it.boot.uefi if uefi is None else uefi
            )
        return it.boot

    async def sensors(self) -> Sequence[Reading]:
        it = await self._ask()
        return [
            Reading(
                "CPU Temp", "Temperature", "°C", 42.0 if it.powered else 21.0, "ok", thresholds={"upper_critical": 95.0}
            )
        ]

    async def events(self, since: str | None = None) -> Sequence[LogRecord]:
        log = (await self._ask()).log
        ids = [record.id for record in log]
        return log[ids.index(since) + 1 :] if since in ids else list(log)

    async def clear_events(self) -> None:
        (await self._ask()).log.clear()

    async def locate(self, on: bool, seconds: int | None = 15) -> None:
        (await self._ask()).identify_light = on

    async def users(self) -> Sequence[User]:
        await self._ask()
        return [User("2", self.url.user or "admin", "administrator", True)]

    async def set_password(self, user: str, password: bytes) -> None:
        (await self._ask()).password = password.decode("utf-8", "surrogateescape")

    async def reset_bmc(self) -> None:
        (await self._ask()).faults.discard("busy")

    async def console(self) -> ConsoleStream:
        raise BmcUnsupported(f"{self.machine.name}: a fake machine has no console")

    async def close(self) -> None:
        return


__all__ = ["FAULTS", "FakeDriver", "FakeMachine", "forget_all", "machine"]
