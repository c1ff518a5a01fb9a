"""Software RAID: arrays made and taken apart by the ramdisk, wanted ones made again after every clean.

A node's property `raid` holds what is wanted, as Ironic's target_raid_config:
{"logical_disks": [{"raid_level": "1", "size_gb": "MAX"}]}.
"""

from __future__ import annotations

from typing import Any

from baremetal.errors import UsageError
from baremetal.model.event import Kind
from baremetal.model.node import Node
from baremetal.protocol import agent
from baremetal.store.orders import OrderRow
from baremetal.workflows.outcome import Done, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import in_ramdisk
from baremetal.workflows.steps import step

RAID_S = 300.0
ROOT = {"name": "/dev/md0"}
ERASERS = {"clean.erase_devices_metadata", "clean.erase_devices"}


def wanted(node: Node) -> list[dict[str, Any]]:
    """Logical disks this node should have, [] for none."""
    config = node.properties.get("raid")
    if not config:
        return []
    disks = config.get("logical_disks") if isinstance(config, dict) else None
    if not isinstance(disks, list):
        raise UsageError(
            f"{node.name}: its property raid is not {{logical_disks: […]}}",
            fix='baremetal node raid NODE --level 1, or --property \'raid={"logical_disks": [{"raid_level": "1"}]}\'',
        )
    return disks


@step("clean.apply_raid", 20, "make the software RAID that the node's property `raid` wants")
async def apply_raid(p: Pass) -> Outcome:
    """Erasing took the arrays apart; they come back here. Where nothing was erased they are there still."""
    disks = wanted(p.node)
    if not disks:
        return Done("no RAID is wanted")
    done = {one["name"] for one in p.work["steps"]}
    if "raid.create_configuration" in done:
        return Done("a step of this clean made it")
    if not done & ERASERS:
        return Done("no disk was erased: arrays stay as they are")
    return await _create(p, disks)


@step("raid.create_configuration", 0, "make software RAID", ("logical_disks",))
async def create_configuration(p: Pass) -> Outcome:
    """Ironic's step; without arguments what the property `raid` wants."""
    args = p.work["steps"][p.work["i"]]["args"]
    disks = args.get("logical_disks") or wanted(p.node)
    if not disks:
        raise UsageError(f"{p.node.name}: which RAID?", fix="give logical_disks, or set the node's property raid")
    outcome = await _create(p, disks)
    if isinstance(outcome, Done):
        p.change(properties={**p.node.properties, "raid": {"logical_disks": disks}})
    return outcome


@step("raid.delete_configuration", 0, "take software RAID apart")
async def delete_configuration(p: Pass) -> Outcome:
    """Stops the arrays and wipes what makes disks members; nothing is wanted any more."""
    answer = await in_ramdisk(p, agent.RAID_DELETE, {}, RAID_S)
    if not isinstance(answer, OrderRow):
        return answer
    p.change(properties={k: v for k, v in p.node.properties.items() if k != "raid"})
    p.event(Kind.STEP, "raid-deleted", source="agent", data=answer.data)
    return Done(f"{len(answer.data.get('wiped') or [])} disks are members no more")


async def _create(p: Pass, disks: list[dict[str, Any]]) -> Outcome:
    answer = await in_ramdisk(p, agent.RAID_CREATE, {"logical_disks": disks}, RAID_S)
    if not isinstance(answer, OrderRow):
        return answer
    made = answer.data.get("logical_disks") or []
    p.event(Kind.STEP, "raid-created", source="agent", data={"logical_disks": made})
    return Done(", ".join(f"{d.get('name')} RAID {d.get('raid_level')}" for d in made) or "no array was reported")
