"""Cleaning: erase the listed disks, prove it, make the node available. A failed clean never reaches available."""

from __future__ import annotations

from typing import Any

from baremetal.lifecycle import Verb
from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.protocol import agent
from baremetal.store import events, inventories
from baremetal.store.orders import OrderRow
from baremetal.workflows import inspection
from baremetal.workflows.outcome import Again, Done, Failed, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import agent_up, in_ramdisk
from baremetal.workflows.release import rest
from baremetal.workflows.steps import step

METHODS = ("metadata", "zero", "discard", "secure", "best")
DISKS_AN_EVENT = 8  # an event holds 4 KiB
OURS = (
    "disks"  # entry of node.extra: identities of disks that we erased or wrote, so that nobody else's data is on them
)


UNERASED = "unerased"  # beside "ours": why nothing was erased when the node last became available


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
    "erase whole disks: the drive's own erase where it has one, zeros elsewhere (method best)",
    ("method", "disks"),
)
async def erase_all(p: Pass) -> Outcome:
    """Ironic's erase_devices; asked for only."""
    args = p.work["steps"][p.work["i"]]["args"]
    return await _erase(p, str(args.get("method") or p.node.wanted_args.get("method") or "best"))


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
    guarded = set() if _given_up(p) else {identity(d) for d in listed} - set(_ours(p))
    order = {"disks": [_named(d, identity(d) in guarded) for d in listed], "method": method}
    answer = await in_ramdisk(p, agent.CLEAN, order, p.policy.clean_s)
    if not isinstance(answer, OrderRow):
        return answer
    return _proved(p, listed, answer.data)


def _proved(p: Pass, listed: list[dict[str, Any]], data: dict[str, Any]) -> Outcome:
    """Every disk that was listed must be reported erased, by a method, and read again."""
    told = [d for d in data.get("disks") or [] if isinstance(d, dict) and d.get("method") and not d.get("fault")]
    proved = {identity(d) for d in told if int(d.get("bytes_verified") or 0) > 0}
    missing = [d for d in listed if identity(d) not in proved]
    if missing:
        return Failed(
            Fault(
                "clean-incomplete",
                f"{p.node.name}: {len(missing)} of {len(listed)} disks were not reported clean, with proof",
                detail=", ".join(f"{d.get('name')} serial {d.get('serial')}" for d in missing),
                fix="a disk that vanished or refuses: look at it, inspect again, then provide again",
                since=p.now,
            )
        )
    kept = ("name", "serial", "wwn", "size", "method", "bytes_verified", "discarded", "seconds")
    proofs = [{k: d.get(k) for k in kept} for d in told]
    for at in range(0, len(proofs), DISKS_AN_EVENT):
        some = proofs[at : at + DISKS_AN_EVENT]
        p.event(Kind.STEP, events.PROOF, source="agent", data={"node": p.node.name, "disks": some})
    own(p, listed)
    return Done(f"{len(listed)} disk{'s' if len(listed) > 1 else ''} clean, by {', '.join(sorted(_methods(told)))}")


def _methods(told: list[dict[str, Any]]) -> set[str]:
    return {str(d["method"]).partition(" ")[0] for d in told}


def identity(disk: dict[str, Any]) -> str:
    """What tells a disk from every other: its serial, else its WWN, else its name."""
    return str(disk.get("serial") or disk.get("wwn") or disk.get("name"))


def own(p: Pass, disks: list[dict[str, Any]]) -> None:
    """From now on what lies on these disks is ours to erase."""
    known = sorted(set(_ours(p)) | {identity(d) for d in disks})
    p.change(extra={**p.node.extra, OURS: {"ours": known}})


ERASING = {"clean.erase_devices_metadata", "clean.erase_devices"}


def tell_unerased(p: Pass) -> None:
    """A node that becomes available with no disk erased, as Ironic allows: said plainly, until one is."""
    if ERASING & {doc["name"] for doc in p.work.get("steps") or []}:
        return
    why = "the setting automated_clean is off"
    if p.policy.automated_clean:
        why = f"{p.node.wanted} by {p.node.wanted_by or 'somebody'} asked for erase_devices_metadata at priority 0"
    p.event(Kind.SECURITY, "not-erased", outcome="alarm", data={"because": why})
    p.change(extra={**p.node.extra, OURS: {**(p.node.extra.get(OURS) or {}), UNERASED: why}})


def _ours(p: Pass) -> list[str]:
    return list((p.node.extra.get(OURS) or {}).get("ours") or [])


def _given_up(p: Pass) -> bool:
    """Did somebody agree to lose what is on the disks?

    A release is that word; so are --erase-foreign and the node's property of
    that name, for tools of Ironic's that know no such argument.
    """
    asked = p.node.wanted_args.get("erase_foreign") or p.node.properties.get("erase_foreign")
    return p.node.wanted == Verb.UNDEPLOY or asked in (True, "true", "yes", 1)


async def _look_first(p: Pass) -> Outcome:
    """Never inspected: take the inventory in the same boot, so that only listed disks are touched."""
    answer = await in_ramdisk(p, agent.INSPECT, {}, p.policy.inspect_s)
    if not isinstance(answer, OrderRow):
        return answer
    inspection.learn(p, answer.data.get("inventory") or {})
    return Again(0.0, "inventory stored, now cleaning")


def _named(disk: dict[str, Any], guarded: bool) -> dict[str, Any]:
    named = {k: disk.get(k) for k in ("serial", "wwn", "name", "size")}
    return {**named, "foreign": False} if guarded else named


def _matches(disk: dict[str, Any], hint: dict[str, Any]) -> bool:
    return all(disk.get(k) == v for k, v in hint.items())
