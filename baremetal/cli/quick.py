"""Reads plain command-line values without pydantic.

Typer ≥ 0.20 builds a pydantic adapter for every parameter: 90 ms of CPU before
`baremetal bmc power` sends its first datagram (measured, 2026-11). Texts,
numbers, paths, choices and lists of them are read here; anything with
more rules goes Typer's way. Where Typer is built differently, nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

_PLAIN = (str, int, float, bool, Path)


def install() -> None:
    """Replaces Typer's parameter reader by ours for plain types; safe to call twice."""
    import typer.core as core

    theirs = getattr(core, "build_runtime_param", None)
    if theirs is None or getattr(theirs, "quick", False):
        return

    def build(descriptor: Any) -> Any:
        item = item_type(descriptor.annotation)
        rules = descriptor.parameter_info
        if item is None or any(getattr(rules, name, None) for name in _RULES):
            return theirs(descriptor)
        return _Quick(item, descriptor.is_list)

    build.quick = True  # type: ignore[attr-defined]
    core.build_runtime_param = build  # type: ignore[attr-defined]


# Rules of a parameter that only Typer's own reader knows.
_RULES = (
    "min",
    "max",
    "parser",
    "click_type",
    "exists",
    "resolve_path",
    "formats",
    "mode",
    "lazy",
    "writable",
    "executable",
)


def item_type(annotation: Any) -> type | None:
    """The plain type of one value, or None when it is not plain."""
    if get_origin(annotation) is list:
        arguments = get_args(annotation)
        return item_type(arguments[0]) if len(arguments) == 1 else None
    if isinstance(annotation, type) and (annotation in _PLAIN or issubclass(annotation, Enum)):
        return annotation
    return None


class _Quick:
    """Stands where Typer keeps its pydantic adapter."""

    def __init__(self, item: type, many: bool) -> None:
        self.item = item
        self.many = many

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The typed value, or Typer's BadParameter."""
        repeated = param.multiple or param.nargs == -1
        if value is None:
            return () if repeated else None
        read = reader(self.item)
        try:
            return [read(one) for one in value] if self.many or repeated else read(value)
        except ValueError as exc:
            from typer import BadParameter

            raise BadParameter(str(exc), ctx=ctx, param=param) from None


def reader(item: type) -> Callable[[Any], Any]:
    """How one value of this type is read."""
    if issubclass(item, Enum):
        return lambda value: _choice(item, value)
    if item is bool:
        return _truth
    if item in (int, float):
        return lambda value: _number(item, value)
    return item


def _choice(item: type[Enum], value: Any) -> Enum:
    try:
        return value if isinstance(value, item) else item(value)
    except ValueError:
        known = ", ".join(repr(member.value) for member in item)
        raise ValueError(f"{value!r} is not one of {known}.") from None


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "t", "yes", "y", "on"):
        return True
    if text in ("0", "false", "f", "no", "n", "off", ""):
        return False
    raise ValueError(f"{value!r} is not a valid boolean.")


def _number(item: type, value: Any) -> Any:
    try:
        return item(value)
    except (TypeError, ValueError):
        kind = "integer" if item is int else "number"
        raise ValueError(f"{value!r} is not a valid {kind}.") from None
