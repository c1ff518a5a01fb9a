"""Configuration files as oslo.config reads them: INI, a repeated name makes a list.

`$name` refers to another option, `$$` is a dollar sign; an indented line goes on
with the value above. Unknown sections and names are for the caller to ignore.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

from baremetal.agents.collect.errors import BadConfig

Values = Dict[Tuple[str, str], List[str]]


def parse(text: str, path: str) -> Values:
    """(section, name with underscores) -> every value given, in order."""
    found: Values = {}
    section = "DEFAULT"
    last: List[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            last = [] if not stripped else last
            continue
        if line[0] in " \t" and last:
            last[-1] = f"{last[-1]}\n{stripped}"
            continue
        if stripped[0] == "[":
            section = _section(stripped, path, number)
            last = []
            continue
        name, value = _pair(stripped, path, number)
        last = found.setdefault((section, name), [])
        last.append(value)
    return found


def _section(text: str, path: str, number: int) -> str:
    if not text.endswith("]") or len(text) < 3:
        raise BadConfig(f"{path}, line {number}: a section is [name], not {text!r}")
    return text[1:-1].strip()


def _pair(text: str, path: str, number: int) -> Tuple[str, str]:
    cuts = [text.find(c) for c in "=:" if c in text]
    if not cuts or min(cuts) == 0:
        raise BadConfig(f"{path}, line {number}: expected name = value")
    cut = min(cuts)
    value = text[cut + 1 :].strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return text[:cut].strip().replace("-", "_"), value
