"""Faults a rack can be given, by name, and how a BMC gets its share of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from baremetal.errors import UsageError
from baremetal.lab.profiles import profile

if TYPE_CHECKING:
    from baremetal.lab.bmc import VirtualBmc

#: Every fault `lab fault NODE …` knows. `heal` takes all of them back.
FAULTS: dict[str, str] = {
    "nic-down": "the cable of every NIC is pulled",
    "nic-up": "the cables are plugged in again",
    "bmc-silent": "the BMC answers nothing",
    "bmc-wrong-password": "the BMC refuses every password",
    "bmc-hang": "the BMC opens sessions and is silent after that",
    "bmc-slow": "each answer of the BMC takes 700 ms",
    "bmc-loss": "one BMC datagram in ten is lost, each way",
    "bmc-busy": 'the BMC answers every third command with "node busy"',
    "bmc-full": "the BMC has no free session",
    "bmc-ok": "the BMC behaves",
    "power-ignored": "power orders are acknowledged and not done",
    "power-slow": "power orders take 20 s",
    "boot-dropped": "boot device orders are acknowledged and not kept",
    "disk-small": "the disk is 64 MiB small, from the next power-on",
    "disk-none": "no disk is in the machine, from the next power-on",
    "disk-ok": "the disk is there in its full size again, from the next power-on",
    "box-other": "another machine stands there, with the same MACs, from the next power-on",
    "box-starved": "96 MiB of memory, from the next power-on",
    "box-ok": "the machine is itself again, from the next power-on",
    "corrupt-image": "the image sent to the node is corrupt",
    "heal": "all faults are taken back",
}


@dataclass(slots=True)
class WireFaults:
    """Between client and BMC. `loss` is a share 0..1 in each direction, `latency_s` delays each answer."""

    silent: bool = False
    loss: float = 0.0
    latency_s: float = 0.0


class Delayed(Protocol):
    """A chassis whose power orders take `delay_s` seconds."""

    delay_s: float


def apply(virtual: VirtualBmc, chassis: Delayed, fault: str, profile_name: str = "plain") -> None:
    """Give a BMC a fault that is the BMC's own; bmc-ok takes them all back."""
    bmc, wire = virtual.bmc, virtual.faults
    match fault:
        case "bmc-silent":
            wire.silent = True
        case "bmc-slow":
            wire.latency_s = 0.7
        case "bmc-loss":
            wire.loss = 0.1
        case "bmc-wrong-password":
            bmc.quirks.wrong_password = True
            virtual.server.drop_all()
        case "bmc-hang":
            bmc.quirks.hang_after_login = True
        case "bmc-busy":
            bmc.quirks.busy_rate = 1 / 3
        case "bmc-full":
            bmc.max_sessions = 0
            virtual.server.drop_all()
        case "power-ignored":
            bmc.quirks.power_ignored = True
        case "power-slow":
            chassis.delay_s = 20.0
        case "boot-dropped":
            bmc.quirks.boot_dropped = True
        case "bmc-ok":
            virtual.faults = WireFaults()
            profile(profile_name).apply(bmc)
            chassis.delay_s = 0.0
        case _:
            raise UsageError(f"{fault} is no fault of a BMC", fix="known: baremetal lab fault list")
