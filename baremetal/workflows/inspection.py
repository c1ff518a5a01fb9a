"""Inspecting: boot the ramdisk, take its inventory. Never wipes anything."""

from __future__ import annotations

import re
from typing import Any

from baremetal.errors import BaremetalError, Refused
from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.model.node import Firmware
from baremetal.protocol import agent
from baremetal.store import inventories, ports
from baremetal.store.orders import OrderRow
from baremetal.workflows import faults, judgement
from baremetal.workflows.metadata import refresh
from baremetal.workflows.outcome import Done, Failed, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import agent_up, in_ramdisk
from baremetal.workflows.release import rest
from baremetal.workflows.steps import step

# What the boot plane finds a machine by: six bytes, no group. An InfiniBand card has twenty: it stays in the inventory.
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
MOST_NICS = 256


@step("inspect.boot_ramdisk", 100, "boot the ramdisk, or keep the one that runs")
async def boot_ramdisk(p: Pass) -> Outcome:
    """The agent must answer."""
    return await agent_up(p)


@step("inspect.collect", 50, "CPU, memory, disks, NICs, DMI, firmware mode, from the ramdisk")
async def collect(p: Pass) -> Outcome:
    """Order the inventory, store it whole, see what the rules make of it, compare it with the SKU."""
    asked = p.node.wanted_args.get("lldp_s")
    lldp_s = p.policy.lldp_s if asked is None else float(asked)
    answer = await in_ramdisk(p, agent.INSPECT, {"lldp_s": lldp_s} if lldp_s else {}, p.policy.inspect_s)
    if not isinstance(answer, OrderRow):
        return answer
    inventory = answer.data.get("inventory") or {}
    try:
        learn(p, inventory)
        fault = judge(p, inventory)
    except BaremetalError as exc:
        return Failed(faults.from_error(exc, p.now))
    return Failed(fault) if fault else Done(summary(inventory))


def learn(p: Pass, inventory: dict[str, Any]) -> None:
    """Store the inventory; take over what allocation, deploy and boot need. MAC conflicts are refused."""
    macs = [m for nic in _list(inventory, "interfaces") if _MAC.fullmatch(m := str(nic.get("mac_address")).lower())]
    if len(macs) > MOST_NICS:
        raise Refused(f"{p.node.name}: its inventory has {len(macs)} NICs; more than {MOST_NICS} are not believed")
    p.world.store.read(lambda c: ports.check_free(c, p.node.id, macs))
    p.also(lambda c: inventories.put(c, p.node.id, inventory, p.now))
    p.also(lambda c: ports.add(c, p.node.id, macs))
    system = _mapping(inventory, "system_vendor")
    mode = _mapping(inventory, "boot").get("current_boot_mode")
    serial = str(system.get("serial_number") or "").replace("\0", "")[:200]
    uuid = str(system.get("uuid") or "").lower()
    p.change(
        properties={**p.node.properties, **figures(inventory)},
        serial=p.node.serial or serial or None,
        system_uuid=p.node.system_uuid or (uuid if len(uuid) == 36 else None),
        firmware=Firmware(mode) if mode in ("bios", "uefi") else p.node.firmware,
    )
    p.event(Kind.INVENTORY, "stored", source="agent", data=figures(inventory))


def judge(p: Pass, inventory: dict[str, Any]) -> Fault | None:
    """Rules and SKU on a fresh inventory; the fault when one of them says no."""
    node, verdict = p.world.store.read(lambda c: judgement.judge(c, p.node, inventory))
    p.change(**{name: getattr(node, name) for name in judgement.FIELDS})
    if (node.name, node.labels) != (p.before.name, p.before.labels):  # metadata documents may speak of them
        p.also(lambda c: refresh(c, p.world.metadata, p.world.signer, node, p.now))
    if verdict.said:
        p.event(Kind.INVENTORY, "rules", data={"said": list(verdict.said)[:20]})
    if verdict.sku:
        outcome = "failed" if verdict.differences else "ok"
        data = {"sku": verdict.sku, "differences": list(verdict.differences)[:20]}
        p.event(Kind.INVENTORY, f"sku {verdict.sku}", outcome=outcome, data=data)
    return verdict.fault(p.node.name, p.now)


def summary(inventory: dict[str, Any]) -> str:
    """One line for people."""
    f = figures(inventory)
    nics = len(_list(inventory, "interfaces"))
    return f"{f.get('cpus', '?')} CPUs, {f.get('memory_mb', '?')} MiB, {f.get('local_gb', '?')} GB, {nics} NICs"


def disks(inventory: dict[str, Any]) -> list[dict[str, Any]]:
    """Local, writable, non-removable disks as the inventory lists them."""
    return [d for d in _list(inventory, "disks") if not (d.get("removable") or d.get("read_only") or d.get("refusal"))]


def figures(inventory: dict[str, Any]) -> dict[str, Any]:
    """Ironic's property names: cpus, memory_mb, local_gb (largest disk), cpu_arch."""
    cpu, memory = _mapping(inventory, "cpu"), _mapping(inventory, "memory")
    sizes = [_whole(d.get("size")) for d in disks(inventory)]
    arch = cpu.get("architecture")
    found = {
        "cpus": _whole(cpu.get("count")),
        "cpu_arch": arch[:40] if isinstance(arch, str) else None,
        "memory_mb": _whole(memory.get("physical_mb")) or _whole(memory.get("total")) // 2**20,
        "local_gb": max(sizes, default=0) // 10**9,
    }
    return {k: v for k, v in found.items() if v}


def _mapping(inventory: dict[str, Any], key: str) -> dict[str, Any]:
    found = inventory.get(key)
    return found if isinstance(found, dict) else {}


def _whole(value: Any) -> int:
    """A count or size; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else 0


def _list(inventory: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = inventory.get(key)
    found = found if isinstance(found, list) else []
    return [item for item in found if isinstance(item, dict)]


@step("inspect.finish", 10, "leave the ramdisk up for the next verb, or power off")
async def finish(p: Pass) -> Outcome:
    """Fast track keeps it."""
    return await rest(p)
