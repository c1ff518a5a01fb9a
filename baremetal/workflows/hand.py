"""Machines without a BMC (`manual://`): the pass says what to press, waits, and goes on when somebody confirms.

What the machine itself shows counts as well: a hello needs no confirmation
that it was switched on.
"""

from __future__ import annotations

import dataclasses

from sqlalchemy.engine import Connection

from baremetal.errors import Refused
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, Power
from baremetal.store import events, nodes
from baremetal.workflows import ids
from baremetal.workflows.outcome import Again, Done, Outcome, Wait
from baremetal.workflows.passes import Pass

PATIENCE_S = 7 * 86400.0  # a person walks there on Monday


def power(p: Pass, wanted: Power) -> Outcome:
    """Done when somebody said so, or when the machine was heard."""
    key = f"power {wanted}"
    if p.here.get("by_hand") == f"done {key}":
        p.note(by_hand=None)
        return Done(f"switched {wanted} by hand")
    if wanted is Power.ON and _heard(p):
        return Done("it was heard, so it is on")
    what = _what(p, wanted)
    if p.here.get("by_hand") != key:
        p.note(by_hand=key)
        p.event(Kind.WAIT, "by-hand", data={"because": what})
        return Again(0.0, what)
    because = f"somebody must {what}, then: baremetal node confirm {p.node.name}"
    return p.wait(f"hand {key}", because, PATIENCE_S) or Wait(because, p.now + PATIENCE_S, f"hand {key}")


def _heard(p: Pass) -> bool:
    boot = p.ramdisk or p.instance
    return boot is not None and boot.hello_at is not None


def _what(p: Pass, wanted: Power) -> str:
    if wanted is not Power.ON:
        return "switch it off"
    return "switch it on and have it boot from the network" if p.ramdisk else "switch it on; it boots from its disk"


def asked(node: Node) -> bool:
    """Does it wait for a person?"""
    return str((node.work.get("here") or {}).get("by_hand", "")).startswith("power ")


def confirm(conn: Connection, ref: str, by: str, now: float) -> Node:
    """An operator did what was asked."""
    node = nodes.get(conn, ref)
    if not asked(node):
        raise Refused(
            f"{node.name} waits for nobody's hand", fix=f"baremetal node explain {node.name} says what it waits for"
        )
    here = {**node.work["here"], "by_hand": f"done {node.work['here']['by_hand']}"}
    saved = nodes.save(conn, node, dataclasses.replace(node, work={**node.work, "here": here}, wake_at=now), now)
    told = Event(ids.ulid(now), now, node.id, Kind.VERB, "confirm", by, data={"what": node.work["here"]["by_hand"]})
    events.add_all(conn, [told])
    return saved
