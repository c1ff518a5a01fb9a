"""Paths into an inventory, and conditions on what they find. Pure.

A path is names joined by dots: `cpu.count`, `disks.0.serial`, `disks.*.size`
(of every disk), `disks.#` (how many), `disks[rotational=false].#` (how many of
those), `interfaces.*.lldp_processed.system_name`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from baremetal.errors import UsageError
from baremetal.model.patterns import LONGEST_TEXT, Pattern

MAX_TEXT = LONGEST_TEXT  # characters a pattern looks at
_STEP = re.compile(r"(\*|#|[^.\[\]*#]+)?((?:\[[^\[\]=]+=[^\[\]]*\])*)")
_FILTER = re.compile(r"\[([^\[\]=]+)=([^\[\]]*)\]")


def find(doc: Any, path: str) -> list[Any]:
    """Everything at the path, [] when there is nothing. `#` finds one number."""
    found = [doc]
    for name, filters in _steps(path):
        if name == "#":
            return [sum(len(f) if isinstance(f, list | dict) else 1 for f in found)]
        if name:
            found = [v for f in found for v in _below(f, name)]
        for key, text in filters:
            found = [
                [e for e in f if isinstance(e, dict) and _same(e.get(key), text)] for f in found if isinstance(f, list)
            ]
    return found


def check_path(path: Any) -> str:
    """The path; UsageError when it is none."""
    if not isinstance(path, str) or not path or len(path) > 200:
        raise UsageError(f"{path!r} is no path into an inventory", fix="like cpu.count, or disks.*.serial")
    _steps(path)
    return path


def _steps(path: str) -> list[tuple[str, list[tuple[str, str]]]]:
    steps = []
    # Dots inside [key=value] do not part steps.
    for part in re.split(r"\.(?![^\[]*\])", path):
        hit = _STEP.fullmatch(part)
        if not hit or not part:
            raise UsageError(f"{path!r} is no path into an inventory", detail=f"at {part!r}")
        steps.append((hit.group(1) or "", _FILTER.findall(hit.group(2))))
    return steps


def _below(value: Any, name: str) -> list[Any]:
    if name == "*":
        return list(value) if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    if isinstance(value, dict):
        return [value[name]] if name in value else []
    if isinstance(value, list) and name.isdigit():
        return [value[int(name)]] if int(name) < len(value) else []
    return []


def _same(have: Any, text: str) -> bool:
    if isinstance(have, bool):
        return text.lower() == str(have).lower()
    return str("" if have is None else have).lower() == text.lower()


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")
    return float(value)


def _compare(test: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    def compare(have: Any, want: Any) -> bool:
        try:
            return test(_number(have), _number(want))
        except (TypeError, ValueError):
            return False

    return compare


def _equal(have: Any, want: Any) -> bool:
    if isinstance(have, bool) or isinstance(want, bool):
        return _same(have, str(want))
    try:
        return float(have) == float(want)
    except (TypeError, ValueError):
        return bool(have == want) or str(have).lower() == str(want).lower()


def _in_net(have: Any, want: Any) -> bool:
    try:
        return ipaddress.ip_address(str(have)) in ipaddress.ip_network(str(want), strict=False)
    except ValueError:
        return False


# Ironic's operators of inspection rules, and what each asks.
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _equal,
    "ne": lambda have, want: not _equal(have, want),
    "lt": _compare(lambda a, b: a < b),
    "le": _compare(lambda a, b: a <= b),
    "gt": _compare(lambda a, b: a > b),
    "ge": _compare(lambda a, b: a >= b),
    "matches": lambda have, want: re.fullmatch(str(want), str(have)[:MAX_TEXT], re.IGNORECASE) is not None,
    "contains": lambda have, want: re.search(str(want), str(have)[:MAX_TEXT], re.IGNORECASE) is not None,
    "in-net": _in_net,
    "one-of": lambda have, want: any(_equal(have, w) for w in (want if isinstance(want, list) else [want])),
    "is-none": lambda have, want: have is None,
    "is-true": lambda have, want: have is True or str(have).lower() in ("true", "yes", "1"),
    "is-false": lambda have, want: have is False or str(have).lower() in ("false", "no", "0"),
    "is-empty": lambda have, want: have in (None, "", [], {}),
}
UNARY = ("is-none", "is-true", "is-false", "is-empty")
SIGNS = {"==": "eq", "!=": "ne", "<=": "le", ">=": "ge", "<": "lt", ">": "gt", "~": "contains"}


def check_condition(doc: Any) -> dict[str, Any]:
    """{"field", "op", "value", "every", "not"}, checked: UsageError says what is wrong."""
    if not isinstance(doc, dict) or set(doc) - {"field", "op", "value", "every", "not"}:
        raise UsageError(f"a condition is {{field, op, value, every, not}}, not {doc!r}")
    check_path(doc.get("field"))
    op = doc.get("op", "eq")
    if op not in OPERATORS:
        raise UsageError(f"operator {op!r}", fix="one of " + ", ".join(OPERATORS))
    if op not in UNARY and "value" not in doc:
        raise UsageError(f"{doc['field']} {op}: compared with what? value is missing")
    if op in ("matches", "contains"):
        Pattern(str(doc["value"]))
    return doc


def holds(condition: dict[str, Any], doc: Any) -> bool:
    """Is the condition true? Of several found values one must fit, or, with `every`, each.

    A field that is not there counts as one value: none.
    """
    found = find(doc, condition["field"]) or [None]
    test, want = OPERATORS[condition.get("op", "eq")], condition.get("value")
    verdicts = [test(have, want) for have in found]
    true = all(verdicts) if condition.get("every") else any(verdicts)
    return true is not bool(condition.get("not"))


def expected(field: str, value: Any) -> dict[str, Any]:
    """The condition behind `field = value` of a SKU file: a value, or text with a sign: ">= 64", "~ Intel"."""
    if isinstance(value, str):
        for sign, op in SIGNS.items():
            if value.startswith(sign):
                return check_condition({"field": field, "op": op, "value": value[len(sign) :].strip()})
    if isinstance(value, list):
        return check_condition({"field": field, "op": "one-of", "value": value})
    return check_condition({"field": field, "op": "eq", "value": value})
