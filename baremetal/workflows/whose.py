"""Whose machine is behind a BMC: what it said of itself, compared with what we know. Pure."""

from __future__ import annotations

from typing import Any

from baremetal.bmc.base import Identity
from baremetal.bmc.url import BmcUrl
from baremetal.errors import BaremetalError, UsageError
from baremetal.model.node import Node

# Entry of a node's properties: what its BMC said when it was verified. Gone when the BMC's address changed since.
PROOF = "bmc"


class OtherMachine(BaremetalError):
    """The BMC at this address manages another machine than ours."""

    code = "bmc-other-machine"


def check(node: Node, who: Identity) -> None:
    """OtherMachine when the BMC names another system than the one we knew."""
    known, seen = node.system_uuid, who.uuid
    if known and seen and known.lower() != seen.lower() and not _swapped(known, seen):
        raise OtherMachine(
            f"{node.name}: the BMC manages machine {seen}, but the node is {known}",
            detail=f"BMC says: {who.vendor} {who.product}, serial {who.serial}",
            fix="two cables or addresses swapped? Correct the BMC address, or delete the node and enroll it anew",
        )


def proof(who: Identity) -> dict[str, Any]:
    """What is kept of a BMC that was asked who it is."""
    facts: dict[str, Any] = {k: v for k in ("vendor", "product", "firmware", "bmc_mac") if (v := getattr(who, k))}
    if pin := who.extra.get("tls_sha256"):
        facts["tls_sha256"] = pin
    return facts


def moved(before: str, after: str) -> bool:
    """Do these two addresses name different BMCs, or different systems of one?"""
    if not before or before == after:
        return False
    try:
        old, new = BmcUrl.parse(before), BmcUrl.parse(after)
    except UsageError:
        return True
    return (old.key, old.path) != (new.key, new.path)


def _swapped(a: str, b: str) -> bool:
    """The same UUID, first three fields in the other byte order (SMBIOS before 2.6, and many BMCs)."""
    try:
        parts = b.lower().split("-")
        flipped = [bytes.fromhex(x)[::-1].hex() for x in parts[:3]] + parts[3:]
    except ValueError:
        return False
    return a.lower() == "-".join(flipped)
