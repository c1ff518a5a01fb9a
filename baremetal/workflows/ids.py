"""Identifiers: sortable by time for events, random for everything that must not be guessed."""

from __future__ import annotations

import random
import uuid

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(now: float) -> str:
    """26 characters: 48 bits of milliseconds, 80 random bits."""
    number = int(now * 1000) << 80 | random.getrandbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def boot_id() -> str:
    """Names one boot of one node."""
    return uuid.uuid4().hex


def node_id() -> str:
    """Names a node for good."""
    return str(uuid.uuid4())


def order_id() -> str:
    """Names one order to an agent."""
    return uuid.uuid4().hex
