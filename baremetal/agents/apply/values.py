"""Single values for scripts: find a key, check its type, print it.

The types are regular expressions that keep a value safe for shell and SQL, so
they match the whole value; the original let one trailing newline through.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict

from baremetal.agents.apply.errors import BadMetadata

TYPES: Dict[str, str] = {
    "default": r"[A-Za-z0-9_]*",
    "int": r"[0-9]+",
    "netaddress": r"[A-Za-z0-9/.:-]*",
    "netdevice": r"[A-Za-z0-9/.:-]*",
    "username": r"[A-Za-z0-9_-]+",
    # driver://[user[:password]][@host or file][/database][?variable=value]
    "dsn": r"[a-zA-Z0-9]+://([a-zA-Z0-9+_-]+(:[^@]+)?)?(@?[a-zA-Z0-9/_.-]+)?(/[a-zA-Z0-9_-]+)?(\?[a-zA-Z0-9=_-]+)?",
    "swiftdevices": r"(r\d+z\d+-[A-Za-z0-9.-_]+:%PORT%/[^,]+,?)+",  # .-_ is a range, as in the original
    "raw": r"(?s:.*)",
}


def find(values: Any, key: str) -> Any:
    """The value at a dotted path; lists are indexed by number. None when missing (null counts as missing)."""
    here = values
    for part in key.split("."):
        if isinstance(here, dict):
            here = here.get(part)
        elif isinstance(here, list):
            here = _item(here, part)
        else:
            return None
    return here


def check(text: str, type_name: str, key: str) -> None:
    """BadMetadata unless `text` is wholly of that type. The value itself is not shown: it may be a secret."""
    pattern = TYPES.get(type_name)
    if pattern is None:
        raise BadMetadata(f"unknown type {type_name!r}", fix=f"one of: {', '.join(sorted(TYPES))}")
    if not re.fullmatch(pattern, text):
        raise BadMetadata(f"the value of {key} is not of type {type_name}", fix="--type raw prints any value")


def printed(value: Any) -> str:
    """As a script sees it: objects, lists and booleans in JSON, anything else as text."""
    return json.dumps(value) if isinstance(value, (dict, list, bool)) else str(value)


def _item(items: Any, index: str) -> Any:
    try:
        return items[int(index)]
    except (ValueError, IndexError):
        return None
