"""BMC conversations in supervised worker processes.

A BMC can hang a library, a thread or a whole process; it costs one worker, never
the service. One command is in flight per BMC. Every call has a deadline; a
worker that misses one and does not answer a ping either is killed and
replaced, reads that were under way are asked again, writes are not.

    async with BmcPool() as pool:
        bmc = pool.driver("ipmi://admin@10.0.0.17", Secret(password))
        await bmc.power()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from baremetal.bmc import faults, wirejson
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
from baremetal.bmc.careful import Attempt, Care, Careful
from baremetal.bmc.drivers import driver as bare_driver
from baremetal.bmc.faults import BmcError, BmcProtocol, BmcTimeout, BmcUnsupported
from baremetal.bmc.supervise import Slot, WorkerGone
from baremetal.bmc.url import BmcUrl
from baremetal.model.node import Power
from baremetal.secrets import Secret

# Seconds a call may take; long ones read many records over a slow link.
DEADLINE_S = {"identify": 60.0, "sensors": 120.0, "users": 60.0, "events": 300.0, "clear_events": 60.0, "audit": 120.0}
DEFAULT_DEADLINE_S = 30.0
# The worker enforces the deadline itself; the parent waits this much longer before it doubts the worker.
GRACE_S = 3.0
READS = {"identify", "power", "get_boot", "sensors", "events", "users"}
LOCAL = {"manual", "fake"}
IPMI_CAPS = frozenset({Cap.POWER, Cap.BOOT, Cap.SENSORS, Cap.LOG, Cap.LOCATE, Cap.RESET, Cap.USERS, Cap.AUDIT})


class BmcPool:
    """Workers, and drivers whose calls run in them. `workers` are started when first needed."""

    def __init__(self, workers: int = 1, *, care: Care | None = None) -> None:
        self._slots = [Slot() for _ in range(max(1, workers))]
        self._care = care
        self.on_attempt: Callable[[Attempt], None] | None = None  # hears of every talk (metrics)
        self._locks: dict[str, asyncio.Lock] = {}
        self._homes: dict[str, Slot] = {}
        self._known: dict[tuple[str, Secret, Secret | None], Careful] = {}

    async def __aenter__(self) -> BmcPool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Logs out everywhere and ends the workers, 2 s at most."""
        await asyncio.gather(*(slot.stop() for slot in self._slots))

    def kill(self) -> None:
        """Ends the workers at once, in the middle of whatever they say to a BMC."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()

    def driver(
        self,
        url: str,
        password: Secret,
        *,
        kg: Secret | None = None,
        care: Care | None = None,
        on_attempt: Callable[[Attempt], None] | None = None,
    ) -> BmcDriver:
        """The driver for this address and password; the same arguments give the same one, with its memory."""
        key = (url, password, kg)
        found = self._known.get(key)
        if found is None or care or on_attempt:
            parsed = BmcUrl.parse(url)
            heard = on_attempt or self._heard
            found = Careful(_Pooled(self, parsed, password, kg), parsed.netloc, care or self._care, heard)
            if not care and not on_attempt:
                self._known[key] = found
        return found

    def _heard(self, attempt: Attempt) -> None:
        if self.on_attempt is not None:
            self.on_attempt(attempt)

    @property
    def restarts(self) -> int:
        """How many workers had to be replaced since the start."""
        return sum(max(0, slot.restarts) for slot in self._slots)

    def lock(self, key: str) -> asyncio.Lock:
        """One command in flight per BMC."""
        return self._locks.setdefault(key, asyncio.Lock())

    def home(self, key: str) -> Slot:
        """The worker of this BMC: its warm session is there."""
        slot = self._homes.get(key)
        if slot is None:
            slot = self._homes[key] = min(self._slots, key=lambda found: found.members)
            slot.members += 1
        return slot


async def _nothing_to_find(_: BmcDriver, **__: Any) -> dict[str, Any]:
    """The audit of a machine without a BMC."""
    return {"worst": "none", "findings": []}


async def _set_there(bmc: BmcDriver, user: str, new: str) -> dict[str, Any]:
    await bmc.set_password(user, new.encode("utf-8", "surrogateescape"))
    return {"password": "changed", "user": user, "proved": True}


_IN_MEMORY: dict[str, Callable[..., Any]] = {"audit": _nothing_to_find, "change_password": _set_there}


class _Pooled:
    """A driver whose every call is a message to a worker."""

    def __init__(self, pool: BmcPool, url: BmcUrl, password: Secret, kg: Secret | None) -> None:
        self.pool = pool
        self.url = url
        self._password = password
        self._kg = kg
        self._local = bare_driver(url, password.reveal()) if url.scheme in LOCAL else None

    @property
    def caps(self) -> frozenset[Cap]:
        """What this kind of address can do at most; the BMC itself may offer less."""
        if self._local:
            return self._local.caps
        return IPMI_CAPS if self.url.scheme == "ipmi" else IPMI_CAPS | frozenset(OPTIONAL)

    async def optional(self, op: str, *args: Any, **kwargs: Any) -> Any:
        """A method of an optional capability; see base.OPTIONAL."""
        return await self._call(op, *args, **kwargs)

    async def identify(self) -> Identity:
        return await self._call("identify")  # type: ignore[no-any-return]

    async def power(self) -> Power:
        return await self._call("power")  # type: ignore[no-any-return]

    async def set_power(self, op: PowerOp) -> None:
        await self._call("set_power", op)

    async def get_boot(self) -> BootPlan:
        return await self._call("get_boot")  # type: ignore[no-any-return]

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        return await self._call("set_boot", device, once=once, uefi=uefi)  # type: ignore[no-any-return]

    async def sensors(self) -> Sequence[Reading]:
        return await self._call("sensors")  # type: ignore[no-any-return]

    async def events(self, since: str | None = None) -> Sequence[LogRecord]:
        return await self._call("events", since)  # type: ignore[no-any-return]

    async def clear_events(self) -> None:
        await self._call("clear_events")

    async def locate(self, on: bool, seconds: int | None = 15) -> None:
        await self._call("locate", on, seconds)

    async def users(self) -> Sequence[User]:
        return await self._call("users")  # type: ignore[no-any-return]

    async def set_password(self, user: str, password: bytes) -> None:
        await self._call("set_password", user, password)

    async def reset_bmc(self) -> None:
        await self._call("reset_bmc")

    async def console(self) -> ConsoleStream:
        raise BmcUnsupported(f"{self.url.netloc}: the console is opened by its own process, not through the pool")

    async def close(self) -> None:
        return  # the worker closes idle sessions

    async def _call(self, op: str, *args: Any, **kwargs: Any) -> Any:
        deadline_s = DEADLINE_S.get(op, DEFAULT_DEADLINE_S)
        async with self.pool.lock(self.url.key):
            if self._local is not None:
                return await self._call_local(op, deadline_s, *args, **kwargs)
            message = {
                "do": "call",
                "op": op,
                "url": str(self.url),
                "password": self._password.reveal(),
                "kg": self._kg.reveal() if self._kg else None,
                "args": [wirejson.pack(item) for item in args],
                "kwargs": {name: wirejson.pack(item) for name, item in kwargs.items()},
                "deadline_s": deadline_s,
            }
            answer = await self._answer(op, message, deadline_s)
        try:
            if "fault" in answer:
                raise faults.from_json(answer["fault"])
            return wirejson.unpack(answer["ok"])
        except (KeyError, ValueError, TypeError, AttributeError) as exc:
            raise BmcProtocol(f"{self.url.netloc}: worker answered nonsense", detail=str(exc)[:200]) from exc

    async def _answer(self, op: str, message: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        slot = self.pool.home(self.url.key)
        for attempt in (1, 2):
            try:
                return await slot.ask(message, deadline_s + GRACE_S)
            except TimeoutError:
                await slot.doubt()
                raise BmcTimeout(
                    f"{self.url.netloc}: {op} not finished within {deadline_s:.0f} s",
                    detail="its worker process did not answer in time",
                    fix="try again; read the state back after a write",
                    cause="worker",
                ) from None
            except WorkerGone:
                if op in READS and attempt == 1:
                    continue
                raise BmcTimeout(
                    f"{self.url.netloc}: {op} interrupted, a BMC worker was replaced",
                    detail="whether it was done is not known",
                    fix="read the state back, then try again",
                    cause="worker",
                ) from None
        raise AssertionError("unreachable")

    async def _call_local(self, op: str, deadline_s: float, *args: Any, **kwargs: Any) -> Any:
        call = _IN_MEMORY.get(op) or getattr(self._local, op)
        try:
            async with asyncio.timeout(deadline_s):
                return await call(*((self._local, *args) if op in _IN_MEMORY else args), **kwargs)
        except TimeoutError:
            raise BmcTimeout(f"{self.url.netloc}: {op} not finished within {deadline_s:.0f} s") from None


__all__ = ["BmcError", "BmcPool", "Care"]
