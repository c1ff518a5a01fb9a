"""Verifying: the BMC says who it is and whether the machine is on. Touches nothing."""

from __future__ import annotations

from typing import Any

from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.model.node import State
from baremetal.store import nodes
from baremetal.workflows.outcome import Done, Failed, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.steps import step


@step("verify.identity", 90, "ask the BMC who it is; proves address, user and password")
async def identity(p: Pass) -> Outcome:
    """Keep vendor, product, serial and UUID; refuse a BMC that is not the one we knew."""
    who = await p.identify()
    known, seen = p.node.system_uuid, who.uuid
    if known and seen and known.lower() != seen.lower() and not _swapped(known, seen):
        return Failed(
            Fault(
                "bmc-other-machine",
                f"{p.node.name}: the BMC manages machine {seen}, but the node is {known}",
                detail=f"BMC says: {who.vendor} {who.product}, serial {who.serial}",
                fix="two cables or addresses swapped? Correct the BMC address, or delete the node and enroll it anew",
                since=p.now,
            )
        )
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
    facts: dict[str, Any] = {k: v for k in ("vendor", "product", "firmware", "bmc_mac") if (v := getattr(who, k))}
    if pin := who.extra.get("tls_sha256"):
        facts["tls_sha256"] = pin
    p.change(
        properties={**p.node.properties, "bmc": facts},
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


def _swapped(a: str, b: str) -> bool:
    """The same UUID, first three fields in the other byte order (SMBIOS before 2.6, and many BMCs)."""
    try:
        parts = b.lower().split("-")
        flipped = [bytes.fromhex(x)[::-1].hex() for x in parts[:3]] + parts[3:]
    except ValueError:
        return False
    return a.lower() == "-".join(flipped)
