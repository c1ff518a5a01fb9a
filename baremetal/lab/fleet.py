"""Virtual BMCs without machines behind them: what `baremetal lab bmcs` serves."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import signal
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from baremetal.errors import UsageError
from baremetal.lab import faults
from baremetal.lab.bmc import Fleet, VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.lab.profiles import profile
from baremetal.wire.ipmi.bmc import Identity, LanConfig
from baremetal.wire.ipmi.users import one_admin

_NAMESPACE = uuid.UUID("4c4c4544-0000-4000-8000-0000000000b0")


@dataclass(frozen=True)
class FleetSpec:
    """`count` BMCs on consecutive addresses from `first`. `broken` maps a fault to how many have it.

    `latency_s` delays each answer; `loss` is a share of datagrams, each way.
    With `redfish_port` they speak Redfish too, over TLS.
    """

    count: int
    first: str = "127.62.0.1"
    port: int = 623
    user: str = "admin"
    password: str = "password"  # noqa: S105 - of virtual BMCs
    profile: str = "plain"
    latency_s: float = 0.0
    loss: float = 0.0
    power_delay_s: float = 0.0
    broken: dict[str, int] = field(default_factory=dict)
    redfish_port: int | None = None

    def __post_init__(self) -> None:
        if sum(self.broken.values()) > self.count:
            raise UsageError(f"{sum(self.broken.values())} broken BMCs of {self.count}")
        try:
            ipaddress.IPv4Address(self.first) + (self.count - 1) * 256 // 254 + 2
        except ValueError:
            fix = "like 127.62.0.1, which needs no set-up"
            raise UsageError(f"from {self.first!r} on there are no {self.count} IPv4 addresses", fix=fix) from None
        for fault in self.broken:
            if fault not in faults.FAULTS:
                raise UsageError(f"no fault {fault!r}", fix="known: baremetal lab fault list")

    @property
    def addresses(self) -> list[str]:
        """All addresses; last bytes 0 and 255 are passed over, as scanners do."""
        out: list[str] = []
        address = ipaddress.IPv4Address(self.first)
        while len(out) < self.count:
            if int(address) & 0xFF not in (0, 255):
                out.append(str(address))
            address += 1
        return out


def build(spec: FleetSpec) -> list[VirtualBmc]:
    """The BMCs, not yet listening; the broken ones are spread evenly over the fleet."""
    fleet = [_one(spec, number, address) for number, address in enumerate(spec.addresses)]
    sick = [fault for fault, number in spec.broken.items() for _ in range(number)]
    for place, fault in enumerate(sick):
        virtual = fleet[place * len(fleet) // len(sick)]
        chassis = virtual.bmc.chassis
        assert isinstance(chassis, MemoryChassis)
        faults.apply(virtual, chassis, fault, spec.profile)
    return fleet


def _one(spec: FleetSpec, number: int, address: str) -> VirtualBmc:
    firmware = profile(spec.profile)
    identity = Identity(
        name=f"bmc-{number}",
        serial=f"SN{number:06d}",
        uuid=uuid.uuid5(_NAMESPACE, str(number)),
        mac="02:0b:" + number.to_bytes(4, "big").hex(":"),
    )
    bmc = diskless_bmc(
        MemoryChassis(delay_s=spec.power_delay_s),
        identity=firmware.identify(identity),
        users=one_admin(spec.user, spec.password),
        lan=LanConfig(address),
    )
    firmware.apply(bmc)
    return VirtualBmc(bmc, address, spec.port, faults.WireFaults(loss=spec.loss, latency_s=spec.latency_s))


async def serve(spec: FleetSpec, ready: asyncio.Event | None = None) -> list[VirtualBmc]:
    """Serve until SIGINT or SIGTERM; returns the BMCs as they ended."""
    stop = asyncio.Event()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket each; the usual limit is 1024
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet(build(spec)))
        if spec.redfish_port is not None:
            # Imported where it is wanted: aiohttp is ten megabytes.
            from baremetal.lab.redfish.face import Face
            from baremetal.lab.redfish.quirks import RedfishQuirks
            from baremetal.lab.redfish.service import Service

            habits = profile(spec.profile).redfish
            faces = {
                v.address: (Face(v.bmc, (_host_mac(v.bmc.identity.mac),), quirks=RedfishQuirks(**habits)), v)
                for v in fleet.bmcs
            }
            await stack.enter_async_context(Service(faces, spec.redfish_port))
        if ready is not None:
            ready.set()
        await stop.wait()
        return fleet.bmcs


def _host_mac(bmc_mac: str) -> str:
    """The host's first NIC, next to its BMC's."""
    return "02:0c:" + bmc_mac[6:]
