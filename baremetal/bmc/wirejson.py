"""Driver calls and their results as JSON lines between the service and its BMC workers.

JSON and not pickle: a worker reads what firmware sends and may be talked into
something; what comes back from it must not be able to run code.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from baremetal.bmc import base
from baremetal.model.node import Power

_CLASSES: dict[str, Any] = {
    cls.__name__: cls for cls in (base.Identity, base.BootPlan, base.Reading, base.LogRecord, base.User)
}
_ENUMS: dict[str, type[Enum]] = {cls.__name__: cls for cls in (Power, base.PowerOp, base.BootDevice)}
# A line longer than this is no answer of ours: 2,048 sensors or 65,535 log records fit.
LONGEST_LINE = 64 * 1024 * 1024


def pack(value: Any) -> Any:
    """A driver's argument or result as JSON values."""
    if isinstance(value, Enum):
        return {"@": type(value).__name__, "v": value.value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            "@": type(value).__name__,
            "v": {f.name: pack(getattr(value, f.name)) for f in dataclasses.fields(value)},
        }
    if isinstance(value, bytes):
        return {"@": "bytes", "v": value.hex()}
    if isinstance(value, Mapping):
        return {"@": "map", "v": {str(key): pack(item) for key, item in value.items()}}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [pack(item) for item in value]
    return value


def unpack(doc: Any) -> Any:
    """Back again; ValueError on anything that pack() does not make."""
    if isinstance(doc, list):
        return [unpack(item) for item in doc]
    if not isinstance(doc, dict):
        return doc
    kind, value = doc.get("@"), doc.get("v")
    if kind == "map" and isinstance(value, dict):
        return {key: unpack(item) for key, item in value.items()}
    if kind == "bytes" and isinstance(value, str):
        return bytes.fromhex(value)
    if kind in _ENUMS:
        return _ENUMS[str(kind)](value)
    if kind in _CLASSES and isinstance(value, dict):
        cls = _CLASSES[str(kind)]
        names = {f.name: f.type for f in dataclasses.fields(cls)}
        fields = {key: unpack(item) for key, item in value.items() if key in names}
        return cls(**{key: tuple(item) if isinstance(item, list) else item for key, item in fields.items()})
    raise ValueError(f"unknown kind {kind!r}")


def line(doc: dict[str, Any]) -> bytes:
    """One JSON line."""
    return json.dumps(doc, separators=(",", ":")).encode("ascii") + b"\n"
