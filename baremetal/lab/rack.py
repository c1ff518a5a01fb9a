"""The rack: network, machines and their BMCs, together. Runs inside a network namespace of its own."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from baremetal.errors import NotFound, UsageError
from baremetal.lab import accel, faults, tools
from baremetal.lab.bmc import Fleet, VirtualBmc
from baremetal.lab.cd import CdDrive
from baremetal.lab.faults import FAULTS
from baremetal.lab.machine import Machine
from baremetal.lab.network import RackNetwork, neighbours
from baremetal.lab.profiles import profile
from baremetal.lab.redfish.face import Face, Media
from baremetal.lab.redfish.quirks import RedfishQuirks
from baremetal.lab.redfish.service import Service
from baremetal.lab.spec import MachineSpec, RackSpec
from baremetal.wire.ipmi.bmc import Bmc, Identity, LanConfig
from baremetal.wire.ipmi.users import one_admin

#: Done to a node by name when a fault is injected that is not the rack's own (the image store's, say).
Hook = Callable[[str, bool], Awaitable[None]]


class Rack:
    """`async with Rack(spec, state_dir) as rack`: machines are off until a BMC is told otherwise.

    `hooks["corrupt-image"]` is called with (node, True) for that fault and
    (node, False) when it is healed.
    """

    def __init__(self, spec: RackSpec, state_dir: Path) -> None:
        self.spec = spec
        self.state_dir = state_dir
        self.network = RackNetwork(spec)
        self.machines: dict[str, Machine] = {}
        self.bmcs: dict[str, VirtualBmc] = {}
        self.hooks: dict[str, Hook] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Rack:
        tools.require(uefi=any(node.firmware == "uefi" for node in self.spec.nodes))
        self.state_dir.mkdir(parents=True, exist_ok=True)
        chosen = accel.choose(self.state_dir / "accel")
        async with AsyncExitStack() as stack:
            await self.network.up()
            stack.push_async_callback(self.network.down)
            for node in self.spec.nodes:
                machine = Machine(node, self.directory(node.name), self.network.taps[node.name], chosen)
                self.machines[node.name] = await stack.enter_async_context(machine)
                virtual = self.bmcs[node.name] = VirtualBmc(bmc_of(node, machine), node.bmc_address)
                virtual.keyboard = machine.console.write
                machine.console.listen(virtual.printed)
            await stack.enter_async_context(Fleet(self.bmcs.values()))
            if self.spec.redfish:
                await stack.enter_async_context(self._redfish())
            self._write("instackenv.json", self.instackenv())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def directory(self, name: str) -> Path:
        """Where a machine keeps its disks, console and logs."""
        return self.state_dir / "nodes" / name

    def instackenv(self) -> dict[str, Any]:
        """The rack as a TripleO instackenv.json."""
        return {"nodes": [_instack_entry(node) for node in self.spec.nodes]}

    async def status(self) -> dict[str, Any]:
        """Machines, power, faults, addresses: one JSON document."""
        seen = await neighbours(self.spec.bridge)
        spec = self.spec
        network = {"bridge": spec.bridge, "server": spec.server, "cidr": spec.cidr}
        return {"network": network, "nodes": [self._node_status(node, seen) for node in spec.nodes]}

    async def inject(self, name: str, fault: str) -> None:
        """Give a node a fault, or take one back. Names are in lab/faults.py."""
        if name not in self.machines:
            raise NotFound(f"no machine {name} in this rack", fix="known: " + ", ".join(self.machines))
        if fault not in FAULTS:
            raise UsageError(f"no fault {fault!r}", fix="known: " + ", ".join(FAULTS))
        if fault == "heal":
            for undo in ("nic-up", "bmc-ok", "disk-ok", "box-ok"):
                await self.inject(name, undo)
            for hook in self.hooks.values():
                await hook(name, False)
            return
        if fault.startswith("nic-"):
            await self._cable(name, fault == "nic-up")
        elif fault.startswith("disk-"):
            shelf = self.machines[name].disks
            shelf.small, shelf.gone = fault == "disk-small", fault == "disk-none"
        elif fault.startswith("box-"):
            box = self.machines[name]
            box.foreign = fault == "box-other" or (box.foreign and fault != "box-ok")
            box.starved = fault == "box-starved" or (box.starved and fault != "box-ok")
        elif fault in self.hooks:
            await self.hooks[fault](name, True)
        elif fault == "corrupt-image":
            raise UsageError("this rack has no image store to corrupt", fix="baremetal lab demo has one")
        else:
            machine = self.machines[name]
            faults.apply(self.bmcs[name], machine, fault, machine.spec.profile)

    def _redfish(self) -> Service:
        """The Redfish faces, each over the machine its IPMI face has too."""
        faces = {}
        for node in self.spec.nodes:
            machine, virtual = self.machines[node.name], self.bmcs[node.name]
            media = Media(on_change=CdDrive(machine).load)
            face = Face(virtual.bmc, node.macs, node.firmware, node.memory_mib, node.cpus, media)
            face.secure_boot = bool(node.secure_boot)
            face.quirks = RedfishQuirks(**profile(node.profile).redfish)
            faces[node.bmc_address] = (face, virtual)
        return Service(faces)

    async def _cable(self, name: str, connected: bool) -> None:
        await self.network.cable(name, connected)
        await self.machines[name].plug(connected)

    def _node_status(self, node: MachineSpec, seen: dict[str, str]) -> dict[str, Any]:
        machine = self.machines[node.name]
        return {
            "name": node.name,
            "firmware": node.firmware,
            "power": "on" if machine.powered() else "off",
            "pid": machine.pid,
            "bmc": f"ipmi://{node.bmc_user}@{node.bmc_address}",
            "macs": list(node.macs),
            "address": next((seen[mac] for mac in node.macs if mac in seen), None),
            "boots": len(machine.boots),
            "cable": machine.cable,
            "trouble": machine.trouble,
            "console": str(machine.console.path),
            "log": str(machine.directory / "serial.log"),
        }

    def _write(self, name: str, document: dict[str, Any]) -> None:
        part = self.state_dir / f"{name}.part"
        part.write_text(json.dumps(document, indent=2) + "\n")
        part.rename(self.state_dir / name)


def bmc_of(node: MachineSpec, machine: Machine) -> Bmc:
    """The BMC of a machine."""
    number = int.from_bytes(bytes(map(int, node.bmc_address.split(".")))[1:], "big")
    identity = Identity(
        name=node.name,
        vendor=node.vendor,
        product=node.product,
        serial=node.serial,
        uuid=node.uuid,
        mac="02:0b:" + number.to_bytes(4, "big").hex(":"),
    )
    users = one_admin(node.bmc_user, node.bmc_password)
    firmware = profile(node.profile)
    machine.bmc = Bmc(machine, firmware.identify(identity), users, LanConfig(node.bmc_address, 32))
    firmware.apply(machine.bmc)
    return machine.bmc


def _instack_entry(node: MachineSpec) -> dict[str, Any]:
    return {
        "name": node.name,
        "pm_type": "ipmi",
        "pm_addr": node.bmc_address,
        "pm_user": node.bmc_user,
        "pm_password": node.bmc_password,
        "ports": [{"address": mac} for mac in node.macs],
        "cpu": str(node.cpus),
        "memory": str(node.memory_mib),
        "disk": str(int(node.disk_gib)),
        "arch": "x86_64",
        "capabilities": f"boot_mode:{node.firmware}",
    }
