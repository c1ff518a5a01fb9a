"""JSON patch as Ironic takes it: add, replace, remove on nested members (RFC 6902). Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any

from baremetal.api.ironic.version import Refusal

MOST = 200
PATH = r"^(/[\w-]+)+$"
_PATH = re.compile(r"(/[\w-]+)+\Z")
OPERATIONS = ("add", "replace", "remove")


def check(patch: list[Any], allowed: Collection[str]) -> None:
    """Refuse what is no patch, and what touches other members than `allowed`."""
    if len(patch) > MOST:
        raise Refusal(400, f"Schema error for patch: more than {MOST} operations")
    for step in patch:
        if not isinstance(step, dict):
            raise Refusal(400, f"Schema error for patch: {str(step)[:80]!r} is not of type 'object'")
        for name in ("path", "op"):
            if name not in step:
                raise Refusal(400, f"Schema error for patch: '{name}' is a required property")
        if step["op"] not in OPERATIONS:
            raise Refusal(400, f"Schema error for patch: {str(step['op'])[:40]!r} is not one of {list(OPERATIONS)}")
        path = step["path"]
        if not isinstance(path, str) or len(path) > 1024 or not _PATH.match(path):
            raise Refusal(400, f"Schema error for patch: {str(path)[:80]!r} does not match '{PATH}'")
        if step["op"] != "remove" and "value" not in step:
            raise Refusal(400, f"Schema error for patch: 'value' is missing for {path[:200]}")
        if path[1:].partition("/")[0] not in allowed:
            only = ", ".join(sorted(allowed))
            raise Refusal(400, f"Cannot patch {path[:200]}. Only the following can be updated: {only}")


def apply(doc: dict[str, Any], patch: list[Any]) -> dict[str, Any]:
    """The document after a checked patch; `doc` stays as it is. Refusal 400 says what does not fit."""
    result = dict(doc)
    for name in {step["path"][1:].partition("/")[0] for step in patch}:
        if name in result:
            result[name] = copy.deepcopy(result[name])
    for step in patch:
        _one(result, step)
    return result


def _one(doc: dict[str, Any], step: dict[str, Any]) -> None:
    parts = step["path"][1:].split("/")
    holder: Any = doc
    for depth, part in enumerate(parts[:-1]):
        if depth == 0 and isinstance(holder, dict) and holder.get(part) is None and step["op"] == "add":
            holder[part] = {}
        holder = _member(holder, part, step)
    if isinstance(holder, list):
        _in_list(holder, parts[-1], step)
    elif not isinstance(holder, dict):
        raise _refusal(step, f"{'/'.join(parts[:-1])} holds no members")
    elif step["op"] == "remove":
        if parts[-1] not in holder:
            raise _refusal(step, f"can't remove a non-existent object '{parts[-1]}'")
        if len(parts) == 1:
            holder[parts[-1]] = None
        else:
            del holder[parts[-1]]
    elif step["op"] == "replace" and parts[-1] not in holder:
        raise _refusal(step, f"can't replace a non-existent object '{parts[-1]}'")
    else:
        holder[parts[-1]] = step["value"]


def _member(holder: Any, part: str, step: dict[str, Any]) -> Any:
    if isinstance(holder, dict) and part in holder:
        return holder[part]
    if isinstance(holder, list) and part.isdecimal() and int(part) < len(holder):
        return holder[int(part)]
    raise _refusal(step, f"member '{part}' not found in {str(holder)[:100]}")


def _in_list(holder: list[Any], part: str, step: dict[str, Any]) -> None:
    if part == "-" and step["op"] == "add":
        holder.append(step["value"])
        return
    at = int(part) if part.isdecimal() and len(part) < 7 else len(holder) + 1
    if at > len(holder) or (at == len(holder) and step["op"] != "add"):
        raise _refusal(step, f"the list has no place '{part[:20]}'")
    if step["op"] == "add":
        holder.insert(at, step["value"])
    elif step["op"] == "remove":
        del holder[at]
    else:
        holder[at] = step["value"]


def _refusal(step: dict[str, Any], why: str) -> Refusal:
    return Refusal(400, f"Couldn't apply patch '{str(step)[:200]}'. Reason: {why}")
