"""The deploy ramdisk: have its agent answer (keep it, or boot it), and give it orders.

One boot goes minted -> off -> device -> on, each stage stored before the next
is ordered, so a crash between any two repeats at most one harmless command.
"""

from __future__ import annotations

import secrets as stdlib_secrets
from typing import Any

from baremetal.bmc.faults import BmcError
from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.model.node import Power
from baremetal.store import boots, events
from baremetal.store.boots import Boot
from baremetal.store.orders import OrderRow
from baremetal.workflows import bootvia, causes, faults, ids, patience
from baremetal.workflows.machine import ensure_power
from baremetal.workflows.outcome import Again, Done, Failed, Outcome, Wait
from baremetal.workflows.passes import Pass

# Seconds a BMC needs after its own reset before it is asked again.
BMC_RESET_S = 60.0


async def agent_up(p: Pass) -> Outcome:
    """Done when the ramdisk's agent answers."""
    boot = p.ramdisk
    if boot and answers(p, boot):
        if p.work.get("topic") == f"hello {boot.id}":
            patience.learn(p, boot)
        return Done("the ramdisk's agent answers")
    if boot is None or boot.hello_at:
        return mint(p, "the agent is silent, booting the ramdisk again" if boot else "booting the ramdisk")
    match boot.stage:
        case "minted":
            return _reached(p, boot, await ensure_power(p, Power.OFF), "off")
        case "off":
            return _reached(p, boot, Done(await bootvia.next_boot(p)), "device")
        case "device":
            return _reached(p, boot, await ensure_power(p, Power.ON), "on", powered_at=p.now)
        case _:
            return await _wait_hello(p, boot)


SWITCHED_OFF_S = 15.0  # an agent whose machine was seen off is given that long to prove otherwise


def answers(p: Pass, boot: Boot) -> bool:
    """The agent of this boot said hello and was heard lately, on a machine that is not known to be off."""
    heard = max(boot.hello_at or 0.0, boot.last_beat or 0.0)
    lately = p.now - heard < p.policy.beat_lost_s
    return boot.live and boot.hello_at is not None and lately and p.node.power is not Power.OFF


def mint(p: Pass, because: str) -> Outcome:
    """A new boot with its own one-time nonce key; the boot plane hears of it before the machine starts."""
    if not p.ports and not p.node.system_uuid:
        return Failed(
            Fault(
                "no-ports",
                f"{p.node.name} has no known MAC address, so its network boot could not be recognised",
                fix=f"baremetal node set {p.node.name} --mac 52:54:00:…",
                since=p.now,
            )
        )
    if p.site.ramdisk(p.node.arch) is None:
        return Failed(
            Fault(
                "no-ramdisk",
                f"there is no deploy ramdisk for {p.node.arch}",
                detail=f"ramdisks for: {', '.join(sorted(p.site.ramdisks)) or 'nothing'}",
                fix="baremetal image build deploy-ramdisk",
                since=p.now,
            )
        )
    boot_id = ids.boot_id()
    sealed = p.world.operator.seal(stdlib_secrets.token_hex(32), boot_id, "nonce-key")
    p.begin_boot(Boot(boot_id, p.node.id, boots.RAMDISK, nonce_key=sealed, created_at=p.now))
    p.change(boot_id=boot_id)
    drop_order(p)
    p.event(Kind.STEP, "boot", data={"boot": "ramdisk", "because": because})
    return Again(0.0, because)


def _reached(p: Pass, boot: Boot, outcome: Outcome, stage: str, **columns: Any) -> Outcome:
    """Store that the boot came as far as `stage`."""
    if not isinstance(outcome, Done):
        return outcome
    p.change_boot(boot, stage=stage, **columns)
    if stage == "on":
        p.event(Kind.POWER, "on", data={"for": "ramdisk"})
    return Again(0.0, outcome.because)


async def _wait_hello(p: Pass, boot: Boot) -> Outcome:
    tries = int(p.here.get("boot_tries", 1))
    topic, wait = f"hello {boot.id}", p.node.wait
    if _over(p, boot):
        return await _no_hello(p, boot, tries)
    if p.work.get("topic") == topic and wait and p.now < wait.until:
        return Wait(wait.because, wait.until, topic)
    seen = p.world.store.read(lambda c: events.of_node(c, p.node.id, since=boot.created_at))
    until, what = patience.until(p, boot, seen)
    if p.now < until:  # seen meanwhile: the wait goes on from there
        return Wait(f"{what} (try {tries} of {p.policy.boot_tries})", until, topic)
    return await _no_hello(p, boot, tries)


def _over(p: Pass, boot: Boot) -> bool:
    """Its console said that it ended (telltales.py). Of stored events: any server knows, and a restarted one."""
    kinds = [str(Kind.CONSOLE)]
    said = p.world.store.read(lambda c: events.of_node(c, p.node.id, since=boot.created_at, kinds=kinds))
    return any(e.boot_id == boot.id and e.stage == causes.SAID and e.data.get("over") for e in said)


async def _no_hello(p: Pass, boot: Boot, tries: int) -> Outcome:
    """The ladder: boot again with a new BMC session, restart the BMC, boot once more, fail with what was seen.

    A machine that was seen on the wire did start: its BMC is left alone.
    """
    seen = p.world.store.read(lambda c: events.of_node(c, p.node.id, since=boot.created_at))
    likely = causes.boot_stopped(boot, seen, [port.mac for port in p.ports])
    waited_s = p.now - (boot.powered_at or boot.created_at)
    fault = Fault(
        likely.code,
        f"{p.node.name}: no hello from the ramdisk in {waited_s:.0f} s: {likely.brief}",
        detail=likely.detail,
        fix=likely.fix,
        since=p.now,
        evidence={"boot_id": boot.id, "stage": likely.stage, "tries": tries},
    )
    if tries >= p.policy.boot_tries or likely.hopeless:
        p.end_boot(boots.RAMDISK)
        return Failed(fault)
    if tries == 1:
        await _fresh_session(p)
    may_reset = p.policy.bmc_reset and not p.by_hand and likely.stage == causes.UNSEEN
    if tries == 2 and may_reset and not p.here.get("bmc_was_reset"):
        p.note(bmc_was_reset=True)
        await _try_bmc_reset(p)
        return Again(BMC_RESET_S, "the BMC was restarted, waiting for it", fault)
    p.note(boot_tries=tries + 1)
    outcome = mint(p, f"try {tries + 1}: {likely.brief}")
    return Again(0.0, outcome.because, fault) if isinstance(outcome, Again) else outcome


async def _fresh_session(p: Pass) -> None:
    try:
        await p.driver().close()
    except BmcError as exc:
        p.event(Kind.BMC, "close", source="bmc", outcome="failed", fault_code=exc.code)


async def _try_bmc_reset(p: Pass) -> None:
    try:
        await p.reset_bmc()
    except BmcError as exc:
        p.event(Kind.BMC, "reset-bmc", source="bmc", outcome="failed", fault_code=exc.code, data={"brief": exc.brief})


# -- orders -------------------------------------------------------------------


async def in_ramdisk(p: Pass, kind: str, args: dict[str, Any], deadline_s: float) -> Outcome | OrderRow:
    """Have the agent do this; the finished order when it is done, else what to wait for."""
    order = p.order
    boot = p.ramdisk
    if order is None or boot is None or order.boot_id != boot.id:
        up = await agent_up(p)
        if not isinstance(up, Done):
            return up
        return give(p, kind, args, deadline_s)
    if order.outcome == "done":
        drop_order(p)
        return order
    if order.outcome is not None:
        return _order_failed(p, order)
    return _still_running(p, boot, order, deadline_s)


def give(p: Pass, kind: str, args: dict[str, Any], deadline_s: float) -> Outcome:
    """Store a new order; the snapshot carries it to the agent's held request."""
    assert p.node.boot_id is not None
    boot = p.ramdisk
    order = OrderRow(ids.order_id(), p.node.id, boot.id if boot else p.node.boot_id, kind, args, issued_at=p.now)
    p.give_order(order)
    waiting = p.wait(
        f"order {order.id}", f"the agent carries out {kind}", deadline_s, look_s=p.policy.progress_lost_s / 3
    )
    assert waiting is not None
    return waiting


def drop_order(p: Pass) -> None:
    """No order is in the agent's hands any more."""
    p.drop_order()


def _order_failed(p: Pass, order: OrderRow) -> Outcome:
    drop_order(p)
    return Failed(faults.from_agent(order.fault, p.now, order.kind))


def _still_running(p: Pass, boot: Boot, order: OrderRow, deadline_s: float) -> Outcome:
    heard = max(order.issued_at, order.progress_at or 0.0, boot.last_beat or 0.0)
    waiting = p.wait(f"order {order.id}", _doing(order), deadline_s, look_s=p.policy.progress_lost_s / 3)
    silent_s = p.now - heard
    patience_s = SWITCHED_OFF_S if p.node.power is Power.OFF else p.policy.progress_lost_s
    if waiting and silent_s < patience_s:
        return waiting
    tries = int(p.here.get("order_tries", 1))
    what = f"the agent was silent for {silent_s:.0f} s" if waiting else f"not finished within {deadline_s:.0f} s"
    fault = Fault(
        "agent-lost" if waiting else "order-deadline",
        f"{p.node.name}: {order.kind}: {what}",
        detail=f"last progress: {order.progress or 'none'}; try {tries} of {p.policy.order_tries}",
        fix="look at the console log: the ramdisk may have crashed, or lost its network",
        since=p.now,
        evidence={"order": order.kind, "boot_id": boot.id},
    )
    if tries >= p.policy.order_tries:
        drop_order(p)
        return Failed(fault)
    p.note(order_tries=tries + 1)
    p.end_boot(boots.RAMDISK)
    drop_order(p)
    return Again(0.0, f"{what}: booting the ramdisk again", fault)


def _doing(order: OrderRow) -> str:
    progress = order.progress or {}
    if progress.get("total"):
        return f"the agent carries out {order.kind}: {100 * progress.get('done', 0) // progress['total']} %"
    return f"the agent carries out {order.kind}"
