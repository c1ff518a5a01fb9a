"""Faults a rack can be given, by name, and those of a BMC's wire."""

from __future__ import annotations

from dataclasses import dataclass

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
    "disk-ok": "the disk has its full size again, from the next power-on",
    "corrupt-image": "the image sent to the node is corrupt",
    "heal": "all faults are taken back",
}


@dataclass(slots=True)
class WireFaults:
    """Between client and BMC. `loss` is a share 0..1 in each direction, `latency_s` delays each answer."""

    silent: bool = False
    loss: float = 0.0
    latency_s: float = 0.0
