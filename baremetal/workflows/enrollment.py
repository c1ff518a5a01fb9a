"""Verifying: the BMC says who it is and whether the machine is on. Touches nothing."""

from __future__ import annotations

from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.model.node import State
from baremetal.store import nodes
from baremetal.workflows import whose
from baremetal.workflows.outcome import Done, Failed, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.steps import step


@step("verify.identity", 90, "ask the BMC who it is; proves address, user and password")
async def identity(p: Pass) -> Outcome:
    """Keep vendor, product, serial and UUID; refuse a BMC that is not the one we knew."""
    who = await p.identify()
    known, seen = p.node.system_uuid, who.uuid
    whose.check(p.node, who)
    if seen and (twin := _twin(p, seen.lower())):
        return Failed(
            Fault(
                "bmc-duplicate",
                f"{p.node.name}: its BMC manages the machine that is {twin} already",
                detail=f"both say UUID {seen.lower()}; BMC says: {who.vendor} {who.product}, serial {who.serial}",
                fix=f"correct the BMC address of one of them, or delete one: baremetal node delete {p.node.name}",
                since=p.now,
            )
        )
    facts = whose.proof(who)
    p.change(
        properties={**p.node.properties, whose.PROOF: facts},
        system_uuid=known or (seen.lower() if seen else None),
        serial=p.node.serial or who.serial,
    )
    p.event(Kind.BMC, "identity", source="bmc", data={**facts, "serial": who.serial or "", "uuid": seen or ""})
    return Done(f"the BMC is {who.vendor or 'a'} {who.product or 'machine'}, serial {who.serial or 'unknown'}")


@step("verify.power", 50, "read the power state")
async def power(p: Pass) -> Outcome:
    """Allocation and deploy want to know it."""
    return Done(f"power is {await p.power()}")


def _twin(p: Pass, uuid: str) -> str | None:
    """The name of another verified node that is the same machine; placeholder UUIDs never come this far."""
    others = p.world.store.read(lambda c: nodes.by_uuid(c, uuid))
    return next((one.name for one in others if one.id != p.node.id and one.state is not State.ENROLL), None)
