"""`auto://`: Redfish when its root answers, else IPMI; the other one where the first cannot.

Falls through only when the first has no way there or cannot do it, never on
refused credentials (that locks accounts) and never on a write whose outcome
is unknown (read back first). What was tried and why it failed is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from baremetal.bmc.base import (
    OPTIONAL,
    BmcDriver,
    BootDevice,
    BootPlan,
    Cap,
    ConsoleStream,
    Identity,
    LogRecord,
    PowerOp,
    Reading,
    User,
)
from baremetal.bmc.faults import BmcError, BmcProtocol, BmcTimeout, BmcTls, BmcUnreachable, BmcUnsupported
from baremetal.bmc.url import OPTIONS, BmcUrl
from baremetal.model.node import Power

T = TypeVar("T")
PROBE_S = 4.0
_OPTIONAL = {name for cap, names in OPTIONAL.items() if cap is not Cap.AUDIT for name in names}


class AutoDriver:
    """Two drivers for one BMC, in the order its answers suggest."""

    def __init__(self, url: BmcUrl, password: str, kg: str | None = None) -> None:
        self.url = url
        self.attempts: list[str] = []
        self._password = password
        self._kg = kg
        self._order: list[BmcDriver] | None = None

    @property
    def caps(self) -> frozenset[Cap]:
        from baremetal.bmc.ipmi import IpmiDriver
        from baremetal.bmc.redfish import RedfishDriver

        return (
            IpmiDriver.caps | RedfishDriver.caps
            if self._order is None
            else frozenset().union(*(d.caps for d in self._order))
        )

    def _urls(self) -> tuple[BmcUrl, BmcUrl]:
        options = self.url.options
        port = int(self.url.option_float("redfish_port", 443))
        kept = {key: value for key, value in options.items() if key in OPTIONS["redfish+https"]}
        redfish = replace(self.url, scheme="redfish+https", port=port, options=kept)
        kept = {key: value for key, value in options.items() if key in OPTIONS["ipmi"]}
        return redfish, replace(self.url, scheme="ipmi", path="", options=kept)

    async def drivers(self) -> list[BmcDriver]:
        """Redfish first when its root answers without credentials; asked once."""
        if self._order is None:
            from baremetal.bmc.drivers import driver
            from baremetal.bmc.redfish import RedfishDriver

            redfish_url, ipmi_url = self._urls()
            redfish = RedfishDriver(redfish_url, self._password)
            ipmi = driver(ipmi_url, self._password, self._kg)
            if await self._redfish_answers(redfish_url):
                self._order = [redfish, ipmi]
            else:
                await redfish.close()
                self._order = [ipmi]
        return self._order

    async def _redfish_answers(self, url: BmcUrl) -> bool:
        from baremetal.bmc.redfishhttp import RedfishHttp

        probe = RedfishHttp(url.with_options(timeout_s=str(PROBE_S)), "")
        try:
            await probe.root()
        except BmcTls:
            raise  # a changed certificate is no reason to go round by IPMI
        except BmcError as exc:
            self.attempts.append(f"redfish root: {exc.code} {exc.cause}".strip())
            return False
        finally:
            await probe.close()
        return True

    async def _first(self, call: Callable[[BmcDriver], Awaitable[T]], *, write: bool = False) -> T:
        last: BmcError | None = None
        for found in await self.drivers():
            try:
                return await call(found)
            except BmcError as exc:
                self.attempts.append(f"{type(found).__name__}: {exc.code} {exc.cause}".strip())
                falls = isinstance(exc, (BmcUnreachable, BmcUnsupported))
                if not write:
                    falls = falls or isinstance(exc, (BmcTimeout, BmcProtocol))
                if not falls:
                    raise
                last = last or exc
        assert last is not None
        raise last

    async def identify(self) -> Identity:
        return await self._first(lambda d: d.identify())

    async def power(self) -> Power:
        return await self._first(lambda d: d.power())

    async def set_power(self, op: PowerOp) -> None:
        await self._first(lambda d: d.set_power(op), write=True)

    async def get_boot(self) -> BootPlan:
        return await self._first(lambda d: d.get_boot())

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        return await self._first(lambda d: d.set_boot(device, once=once, uefi=uefi), write=True)

    async def sensors(self) -> Sequence[Reading]:
        return await self._first(lambda d: d.sensors())

    async def events(self, since: str | None = None) -> Sequence[LogRecord]:
        return await self._first(lambda d: d.events(since))

    async def clear_events(self) -> None:
        await self._first(lambda d: d.clear_events(), write=True)

    async def locate(self, on: bool, seconds: int | None = 15) -> None:
        await self._first(lambda d: d.locate(on, seconds))

    async def users(self) -> Sequence[User]:
        return await self._first(lambda d: d.users())

    async def set_password(self, user: str, password: bytes) -> None:
        await self._first(lambda d: d.set_password(user, password), write=True)

    async def reset_bmc(self) -> None:
        await self._first(lambda d: d.reset_bmc(), write=True)

    async def console(self) -> ConsoleStream:
        """By IPMI: Redfish has none."""
        return await (await self.drivers())[-1].console()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Methods of optional capabilities: of the first of the two that has them."""
        if name not in _OPTIONAL:
            raise AttributeError(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            async def one(found: BmcDriver) -> Any:
                method = getattr(found, name, None)
                if method is None:
                    raise BmcUnsupported(f"{self.url.netloc}: no way to {name.replace('_', ' ')} over IPMI")
                return await method(*args, **kwargs)

            return await self._first(one, write=True)

        return call

    async def close(self) -> None:
        for found in self._order or []:
            await found.close()
