"""JSON patch as Ironic takes it: add, replace, remove on nested members of objects (RFC 6902). Pure."""

from __future__ import annotations

import copy
from typing import Any

from baremetal.api.ironic.version import Refusal

MOST = 200


def apply(doc: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The document after the patch; Refusal 400 names what is wrong."""
    if not isinstance(patch, list) or len(patch) > MOST:
        raise Refusal(400, f"The patch must be a list of at most {MOST} operations")
    result = copy.deepcopy(doc)
    for step in patch:
        _one(result, step)
    return result


def _one(doc: dict[str, Any], step: Any) -> None:
    if not isinstance(step, dict) or not isinstance(step.get("path"), str) or not step["path"].startswith("/"):
        raise Refusal(400, f"Couldn't apply patch: not an operation: {str(step)[:100]}")
    parts = [part.replace("~1", "/").replace("~0", "~") for part in step["path"][1:].split("/")]
    operation = step.get("op")
    if operation not in ("add", "replace", "remove"):
        raise Refusal(400, f"Couldn't apply patch: operation {str(operation)[:40]!r} is not supported")
    if operation != "remove" and "value" not in step:
        raise Refusal(400, f"Couldn't apply patch: 'value' is missing for {step['path'][:200]}")
    holder: Any = doc
    for part in parts[:-1]:
        if holder.get(part) is None and operation == "add":
            holder[part] = {}
        holder = holder.get(part)
        if not isinstance(holder, dict):
            raise Refusal(400, f"Couldn't apply patch: {step['path'][:200]} does not exist")
    last = parts[-1]
    if operation == "remove":
        if last not in holder:
            raise Refusal(400, f"Couldn't apply patch: {step['path'][:200]} does not exist")
        del holder[last]
    else:
        holder[last] = step["value"]
