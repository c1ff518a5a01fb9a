"""Cleaning: erase the listed disks, prove it, make the node available. A failed clean never reaches available."""

from __future__ import annotations

from typing import Any

from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.protocol import agent
from baremetal.store import inventories
from baremetal.store.orders import OrderRow
from baremetal.workflows import inspection
from baremetal.workflows.outcome import Again, Done, Failed, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import agent_up, in_ramdisk
from baremetal.workflows.release import rest
from baremetal.workflows.steps import step

METHODS = ("metadata", "zero", "discard", "secure")


@step("clean.boot_ramdisk", 100, "boot the ramdisk, or keep the one that runs")
async def boot_ramdisk(p: Pass) -> Outcome:
    """The agent must answer."""
    return await agent_up(p)


@step("clean.erase_devices_metadata", 99, "erase partition tables and signatures of the listed disks", ("disks",))
async def erase_metadata(p: Pass) -> Outcome:
    """The default: quick, and nothing of the old system boots any more."""
    return await _erase(p, str(p.node.wanted_args.get("method") or p.policy.clean_method))


@step(
    "clean.erase_devices",
    0,
    "erase whole disks: secure erase or discard where the disk can, zeros elsewhere",
    ("method", "disks"),
)
async def erase_all(p: Pass) -> Outcome:
    """Ironic's erase_devices; asked for only."""
    return await _erase(p, str(p.here.get("method") or "secure"))


@step("clean.finish", 1, "leave the ramdisk up for the next verb, or power off")
async def finish(p: Pass) -> Outcome:
    """Fast track keeps it."""
    return await rest(p)


async def _erase(p: Pass, method: str) -> Outcome:
    stored = p.world.store.read(lambda c: inventories.get(c, p.node.id))
    if stored is None:
        return await _look_first(p)
    listed = inspection.disks(stored[1])
    if p.node.wanted_args.get("disks"):
        listed = [d for d in listed if any(_matches(d, hint) for hint in p.node.wanted_args["disks"])]
    if not listed:
        return Failed(
            Fault(
                "clean-no-disks",
                f"{p.node.name}: no disk to clean: its inventory lists no local disk",
                detail=f"inventory of {len(stored[1].get('disks') or [])} disks, removable and read-only ones left out",
                fix=f"baremetal node inspect {p.node.name}, then provide again",
                since=p.now,
            )
        )
    order = {"disks": [_named(d) for d in listed], "method": method}
    answer = await in_ramdisk(p, agent.CLEAN, order, p.policy.clean_s)
    if not isinstance(answer, OrderRow):
        return answer
    return _proved(p, listed, answer.data)


def _proved(p: Pass, listed: list[dict[str, Any]], data: dict[str, Any]) -> Outcome:
    """Every disk that was listed must be reported erased."""
    told = {str(d.get("serial") or d.get("name")) for d in data.get("disks") or []}
    missing = [
        d for d in listed if str(d.get("serial") or d.get("name")) not in told and str(d.get("name")) not in told
    ]
    if missing:
        return Failed(
            Fault(
                "clean-incomplete",
                f"{p.node.name}: {len(missing)} of {len(listed)} disks were not reported clean",
                detail=", ".join(f"{d.get('name')} serial {d.get('serial')}" for d in missing),
                fix="a disk that vanished or refuses: look at it, inspect again, then provide again",
                since=p.now,
            )
        )
    p.event(Kind.STEP, "erased", source="agent", data={"disks": data.get("disks") or []})
    return Done(f"{len(listed)} disks clean")


async def _look_first(p: Pass) -> Outcome:
    """Never inspected: take the inventory in the same boot, so that only listed disks are touched."""
    answer = await in_ramdisk(p, agent.INSPECT, {}, p.policy.inspect_s)
    if not isinstance(answer, OrderRow):
        return answer
    inspection.learn(p, answer.data.get("inventory") or {})
    return Again(0.0, "inventory stored, now cleaning")


def _named(disk: dict[str, Any]) -> dict[str, Any]:
    return {k: disk.get(k) for k in ("serial", "wwn", "name", "size")}


def _matches(disk: dict[str, Any], hint: dict[str, Any]) -> bool:
    return all(disk.get(k) == v for k, v in hint.items())
