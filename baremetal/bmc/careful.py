"""The care no driver should repeat: reading back, backoff, not locking accounts, giving a dead BMC a rest.

Wraps any BmcDriver and is one itself. Reads are tried again with growing,
jittered pauses; writes never blindly: the state is read back first. A BMC that
was silent several times in a row is left alone for a while (circuit breaker);
credentials that were refused are not tried again until they change.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
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
from baremetal.bmc.faults import BmcAuth, BmcError, BmcLied, BmcTimeout, BmcUnreachable, BmcUnsupported
from baremetal.model.node import Power

T = TypeVar("T")
KEPT_ATTEMPTS = 32
GOAL = {PowerOp.ON: Power.ON, PowerOp.OFF: Power.OFF}


@dataclass(frozen=True)
class Care:
    """How careful; times in seconds.

    `reads`: tries of a read. `confirm_s`: how long power on or off may take to
    be seen (0: do not look). `trip`: silences in a row that open the circuit, for
    `rest_s` at first and twice as long each time up to `most_rest_s`.
    `auth_rest_s`: refused credentials are not tried again before (0: the caller asks once only).
    """

    reads: int = 2
    pause_s: float = 0.5
    confirm_s: float = 20.0
    trip: int = 3
    rest_s: float = 10.0
    most_rest_s: float = 300.0
    auth_rest_s: float = 60.0


@dataclass
class Attempt:
    """One conversation as it went, for the event log: never holds a credential. `began` as time.monotonic()."""

    op: str
    seconds: float
    outcome: str
    began: float = 0.0

    def to_json(self) -> dict[str, object]:
        """`{"op", "ms", "outcome"}`."""
        return {"op": self.op, "ms": round(self.seconds * 1000), "outcome": self.outcome}


class Careful:
    """A BMC with manners. `on_attempt` hears of every conversation, `attempts` keeps the last ones."""

    def __init__(
        self,
        inner: BmcDriver,
        name: str,
        care: Care | None = None,
        on_attempt: Callable[[Attempt], None] | None = None,
    ) -> None:
        self.inner = inner
        self.name = name
        self.care = care or Care()
        self.attempts: deque[Attempt] = deque(maxlen=KEPT_ATTEMPTS)
        self._on_attempt = on_attempt
        self._silences = 0
        self._silence: BmcError | None = None  # the last one, with what was seen
        self._rest_until = 0.0
        self._refused: tuple[float, BmcAuth] | None = None

    @property
    def caps(self) -> frozenset[Cap]:
        return self.inner.caps

    async def identify(self) -> Identity:
        return await self._read("identify", self.inner.identify)

    async def power(self) -> Power:
        return await self._read("power", self.inner.power)

    async def set_power(self, op: PowerOp) -> None:
        """Orders, then looks until it is so; BmcLied when it was accepted and not done."""
        goal = GOAL.get(op)
        ordered = False
        for attempt in range(self.care.reads):
            try:
                if attempt and goal is not None and await self.power() is goal:
                    return
                await self._once("set_power", lambda: self.inner.set_power(op))
                ordered = True
                break
            except BmcError as exc:
                # Not sure what was done: only "on" and "off" may be said twice.
                if not exc.retry or goal is None or attempt + 1 == self.care.reads:
                    raise
                await self._pause(attempt)
        if ordered and goal is not None and self.care.confirm_s > 0:
            await self._confirm(op, goal)

    async def _confirm(self, op: PowerOp, goal: Power) -> None:
        deadline = time.monotonic() + self.care.confirm_s
        wait = 0.05
        while True:
            seen = await self.power()
            if seen in (goal, Power.UNKNOWN):
                return
            if time.monotonic() >= deadline:
                raise BmcLied(
                    f"{self.name}: power {op} accepted but not done",
                    detail=f"still {seen} after {self.care.confirm_s:.0f} s",
                    fix="look at the machine's console and event log: baremetal bmc events",
                    cause="power",
                    stage="read-back",
                )
            await asyncio.sleep(min(wait, max(0.0, deadline - time.monotonic())))
            wait = min(wait * 2, 2.0)

    async def get_boot(self) -> BootPlan:
        return await self._read("get_boot", self.inner.get_boot)

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        """Writes and compares with what is read back; repeating this write is harmless."""
        plan = await self._read("set_boot", lambda: self.inner.set_boot(device, once=once, uefi=uefi))
        if plan.device is not device:
            raise BmcLied(
                f"{self.name}: boot device {device} accepted but not set",
                detail=f"reads back as {plan.device}{'' if plan.once else ', persistent'}",
                fix="set it in the firmware setup, or try a Redfish address for this BMC",
                cause="boot",
                stage="read-back",
            )
        return plan

    async def sensors(self) -> Sequence[Reading]:
        return await self._read("sensors", self.inner.sensors)

    async def events(self, since: str | None = None) -> Sequence[LogRecord]:
        return await self._read("events", lambda: self.inner.events(since))

    async def clear_events(self) -> None:
        await self._once("clear_events", self.inner.clear_events)

    async def locate(self, on: bool, seconds: int | None = 15) -> None:
        await self._read("locate", lambda: self.inner.locate(on, seconds))

    async def users(self) -> Sequence[User]:
        return await self._read("users", self.inner.users)

    async def set_password(self, user: str, password: bytes) -> None:
        await self._once("set_password", lambda: self.inner.set_password(user, password))

    async def reset_bmc(self) -> None:
        """Resets; silence afterwards is expected and not held against it."""
        try:
            await self._once("reset_bmc", self.inner.reset_bmc)
        except BmcTimeout:
            self._silences = 0

    async def optional(self, op: str, *args: object, **kwargs: object) -> Any:
        """A method of an optional capability by its name: `optional("insert_media", url)`; see base.OPTIONAL."""
        if not any(op in names for names in OPTIONAL.values()):
            raise ValueError(f"no optional method {op!r}")
        inner = getattr(self.inner, "optional", None)
        if inner is not None:
            return await self._once(op, lambda: inner(op, *args, **kwargs))
        method = getattr(self.inner, op, None)
        if method is None:
            raise BmcUnsupported(
                f"{self.name}: this BMC cannot {op.replace('_', ' ')}", fix="use a Redfish address for it"
            )
        return await self._once(op, lambda: method(*args, **kwargs))

    async def console(self) -> ConsoleStream:
        return await self._once("console", self.inner.console)

    async def close(self) -> None:
        await self.inner.close()

    async def _read(self, op: str, call: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(self.care.reads):
            try:
                return await self._once(op, call)
            except BmcError as exc:
                if not exc.retry or attempt + 1 == self.care.reads or self._resting():
                    raise
                await self._pause(attempt)
        raise AssertionError("unreachable")

    async def _pause(self, attempt: int) -> None:
        await asyncio.sleep(self.care.pause_s * 2**attempt * random.uniform(0.5, 1.5))

    def _resting(self) -> float:
        return max(0.0, self._rest_until - time.monotonic())

    async def _once(self, op: str, call: Callable[[], Awaitable[T]]) -> T:
        self._check()
        began = time.monotonic()
        outcome = "ok"
        try:
            result = await call()
            self._silences, self._rest_until, self._refused = 0, 0.0, None
            return result
        except BmcError as exc:
            outcome = exc.code
            self._note(exc)
            raise
        finally:
            attempt = Attempt(op, time.monotonic() - began, outcome, began)
            self.attempts.append(attempt)
            if self._on_attempt:
                self._on_attempt(attempt)

    def attempts_since(self, began: float) -> list[dict[str, object]]:
        """The conversations begun at or after that time.monotonic(), oldest first, for an event."""
        return [attempt.to_json() for attempt in self.attempts if attempt.began >= began]

    def _check(self) -> None:
        if self._refused and (left := self._refused[0] - time.monotonic()) > 0:
            raise _still_refused(self._refused[1], left)
        if rest := self._resting():
            last = self._silence.brief if self._silence else f"{self.name}: BMC was silent"
            raise BmcUnreachable(
                f"{last}, {self._silences} times in a row; left alone for {rest:.0f} s more",
                detail=self._silence.detail if self._silence else "",
                fix=f"check cable and BMC VLAN; a scan asks at once: baremetal bmc scan {self.name}",
                cause="circuit-open",
            )

    def _note(self, exc: BmcError) -> None:
        if isinstance(exc, BmcAuth) and self.care.auth_rest_s:
            self._refused = (time.monotonic() + self.care.auth_rest_s, exc)
            exc.fix = f"{exc.fix.partition(';')[0]}; {_until(self.care.auth_rest_s)}"
        if not isinstance(exc, (BmcUnreachable, BmcTimeout)):
            self._silences = 0
            return
        self._silences, self._silence = self._silences + 1, exc
        if self._silences >= self.care.trip:
            rest = min(self.care.rest_s * 2 ** (self._silences - self.care.trip), self.care.most_rest_s)
            self._rest_until = time.monotonic() + rest * random.uniform(0.8, 1.2)


def _until(left_s: float) -> str:
    """When the same credentials are tried again, as a clock and a duration."""
    clock = time.strftime("%H:%M:%S", time.localtime(time.time() + left_s))
    return f"the same are not tried before {clock} ({left_s:.0f} s), so that no account gets locked; others at once"


def _still_refused(refused: BmcAuth, left_s: float) -> BmcAuth:
    """The same refusal again, with the time that is left: nothing was sent to the BMC."""
    return BmcAuth(
        refused.brief,
        detail=f"{refused.detail}; not asked again now".removeprefix("; "),
        fix=f"{refused.fix.partition(';')[0]}; {_until(left_s)}",
        cause=refused.cause,
        stage=refused.stage,
    )
