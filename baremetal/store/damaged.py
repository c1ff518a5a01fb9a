"""Rows that cannot be read: what is still readable of a node, and a fault that says what is not.

Nothing is written back: a save writes only columns that changed since they
were read, so what can be rescued by hand stays in the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from baremetal.model.fault import Fault
from baremetal.model.node import Firmware, Node, Power, State

DAMAGED = "record-damaged"
_MAPPINGS = ("wanted_args", "work", "labels", "properties", "root_device", "config", "extra")
_TEXTS = ("id", "name", "bmc_url", "arch", "resource_class")
_NUMBERS = ("wake_at", "wanted_since", "power_seen_at", "created_at", "updated_at", "state_since")
_NUMBER = (float, int, type(None))
_COUNTS = ("fence", "evidence")
_KINDS: dict[str, Callable[[str], Any]] = {"state": State, "power": Power, "firmware": Firmware}


def wrong(doc: Mapping[str, Any]) -> list[str]:
    """Columns that hold what they cannot."""
    found = [name for name in _MAPPINGS if type(doc[name]) is not dict]
    found += [name for name in _TEXTS if type(doc[name]) is not str]
    found += [name for name in _NUMBERS if not isinstance(doc[name], _NUMBER)]
    found += [name for name in _COUNTS if type(doc[name]) is not int]
    if type(doc["traits"]) is not list:
        found.append("traits")
    fault = doc["fault"]
    if fault is not None and (type(fault) is not dict or not {"code", "brief"} <= fault.keys()):
        found.append("fault")
    if doc["wait_because"] is not None and None in (doc["wait_until"], doc["wait_since"]):
        found.append("wait_until")
    return found


def check(doc: Mapping[str, Any]) -> None:
    """ValueError names the columns that hold what they cannot."""
    if found := wrong(doc):
        raise ValueError(f"columns {', '.join(found)}")


def node(doc: Mapping[str, Any], why: Exception) -> Node:
    """What can be read of it, at rest, with the fault; no pass acts on it and no verb is accepted."""
    bad = set(wrong(doc))
    bad |= {name for name, kind in _KINDS.items() if not _is(kind, doc[name])}
    named = str(doc["name"])
    fault = Fault(
        DAMAGED,
        f"{named}: its record in the database is damaged: {', '.join(sorted(bad)) or why}",
        detail=f"{type(why).__name__}: {why}",
        fix=f"baremetal db check; put a backup in place (baremetal db restore), or forget the node and enroll it "
        f"again: baremetal node delete {named} --force",
        since=doc["updated_at"] if "updated_at" not in bad else 0.0,
    )
    plain = {
        field.name: doc[field.name]
        for field in dataclasses.fields(Node)
        if field.name in doc and field.name not in bad | {"fault", "traits", "wanted", "power_wanted", "held", *_KINDS}
    }
    return Node(
        **{"id": str(doc["id"]), "name": named, **plain},
        state=State(doc["state"]) if "state" not in bad and State(doc["state"]) in _RESTS else State.ERROR,
        power=Power(doc["power"]) if "power" not in bad else Power.UNKNOWN,
        firmware=Firmware(doc["firmware"]) if "firmware" not in bad else Firmware.UNKNOWN,
        traits=tuple(doc["traits"]) if "traits" not in bad else (),
        fault=fault,
    )


_RESTS = (State.ENROLL, State.MANAGEABLE, State.AVAILABLE, State.ACTIVE, State.RESCUE)


def _is(kind: Callable[[str], Any], value: Any) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True
