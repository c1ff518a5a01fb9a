"""Is the machine that says hello the one that was inspected? Another one with its MAC would be erased in its place.

Compared with what the ramdisk read from this machine's own DMI, never with its BMC's word: BMCs write the same
UUID in another byte order, or have one of their own.
"""

from __future__ import annotations

import uuid

from sqlalchemy.engine import Connection

from baremetal.lifecycle import Verb
from baremetal.model.node import Node, State
from baremetal.store import inventories


def stranger(conn: Connection, node: Node, said: str | None) -> str | None:
    """The UUID that was inspected, when the one `said` now is another machine's; None when they may be one.

    Inspecting only reads, and is how a new mainboard gets known: there any machine is let in.
    """
    if node.state is State.INSPECTING or node.wanted == Verb.INSPECT:
        return None
    stored = inventories.get(conn, node.id)
    known = (stored[1].get("system_vendor") or {}).get("uuid") if stored else None
    now, before = _parsed(said), _parsed(known)
    if now is None or before is None or now.bytes in (before.bytes, before.bytes_le):
        return None
    return str(before)


def _parsed(text: object) -> uuid.UUID | None:
    """None for what says nothing: no UUID, all zeros, all ones."""
    try:
        found = uuid.UUID(str(text))
    except ValueError:
        return None
    return found if 0 < found.int < 2**128 - 1 else None
