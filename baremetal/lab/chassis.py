"""A machine made of nothing: power state and boot log only. What stands behind `lab bmcs`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.bootopts import Override
from baremetal.wire.ipmi.codes import ChassisControl

_BOOTS_KEPT = 16


@dataclass
class MemoryChassis:
    """Turns on and off, after `delay_s`; soft off works at once. `boots` are the overrides used, newest last."""

    on: bool = False
    delay_s: float = 0.0
    boots: list[Override] = field(default_factory=list)
    bmc: Bmc | None = None

    def powered(self) -> bool:
        return self.on

    def control(self, order: ChassisControl) -> None:
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self._do, order)
        else:
            self._do(order)

    def _do(self, order: ChassisControl) -> None:
        if order in (ChassisControl.OFF, ChassisControl.SOFT):
            self.on = False
        elif order is not ChassisControl.DIAG and not (order is ChassisControl.ON and self.on):
            self.on = True
            if self.bmc is not None:
                self.boots = [*self.boots[-_BOOTS_KEPT + 1 :], self.bmc.boot.consume(time.time())]


def diskless_bmc(chassis: MemoryChassis, **options: object) -> Bmc:
    """A BMC over a MemoryChassis; options as of Bmc."""
    chassis.bmc = Bmc(chassis, **options)  # type: ignore[arg-type]
    return chassis.bmc
