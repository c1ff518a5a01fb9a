"""Deployments: entries of a document that become sources of their own.

For each deployment key at the root whose value is a list, every entry with a
name, a config and a group of os-apply-config, Heat::Ungrouped or none becomes
the source `name` with that config, after the document itself. Names become
file names, so those that would leave the cache or take another's place are refused.
"""

from __future__ import annotations

import re
from typing import Any, Callable, List, Sequence, Tuple

Source = Tuple[str, Any]
GROUPS = ("os-apply-config", "Heat::Ungrouped", None)
_PLAIN = re.compile(r"[^/\x00-\x1f\x7f]{1,200}")
RESERVED = frozenset(["os_config_files"])


def usable(name: Any) -> bool:
    """Can it be the name of a source? Not hidden, no slash, no control character, not ours."""
    return (
        isinstance(name, str)
        and _PLAIN.fullmatch(name) is not None
        and not name.startswith(".")
        and name not in RESERVED
    )


def split(
    name: str, document: Any, keys: Sequence[str], say: Callable[[str], None] = lambda text: None
) -> List[Source]:
    """The document as source `name`, then its deployments."""
    found: List[Source] = [(name, document)]
    if not isinstance(document, dict):
        return found
    for key in keys:
        entries = document.get(key)
        if entries is None:
            continue
        if not isinstance(entries, list):
            say(f"{name}: {key} is no list, left alone")
            continue
        taken = {n for n, _ in found}
        found += [(e["name"], e["config"]) for e in entries if _wanted(e, name, taken, say)]
    return found


def _wanted(entry: Any, source: str, taken: "set[str]", say: Callable[[str], None]) -> bool:
    if not isinstance(entry, dict) or not entry.get("name") or entry.get("group") not in GROUPS:
        return False
    if "config" not in entry:
        say(f"{source}: deployment {entry['name']!r} has no config, passed over")
        return False
    if not usable(entry["name"]):
        say(f"{source}: deployment name {entry['name']!r} is refused: it is a file name")
        return False
    if entry["name"] in taken:
        say(f"{source}: deployment {entry['name']!r} would replace source {source}, refused")
        return False
    return True
