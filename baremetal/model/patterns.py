"""Regular expressions that others give us, kept to what cannot hold up the server. Pure.

Python's matcher backtracks, holds the interpreter's lock meanwhile, and cannot be
stopped: `^([a-f0-9-]+)+!$` on one node's id takes it hours. So what is repeated may be one
character or class, not a group; repeats are few, and texts are cut. The worst that is
left costs a second or two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from baremetal.errors import UsageError

MOST_REPEATS = 3
LONGEST_PATTERN = 500  # characters
LONGEST_TEXT = 256  # characters; what is behind is not looked at
BUDGET_S = 2.0  # for all texts that one pattern is tried on
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_SINGLE = {"LITERAL", "NOT_LITERAL", "ANY", "IN", "CATEGORY", "RANGE"}
_REFUSED = {"GROUPREF": "a back reference", "GROUPREF_EXISTS": "a condition", "ASSERT": "a look-around"}
_REFUSED |= {"ASSERT_NOT": "a look-around"}


class Pattern:
    """`search` as of `re`; with a `clock` (seconds) within BUDGET_S in all."""

    def __init__(self, text: str, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._text, self._clock = text, clock
        try:
            if len(text) > LONGEST_PATTERN:
                raise ValueError(f"longer than {LONGEST_PATTERN} characters")
            self._compiled = re.compile(text)
            _check(text)
        except (re.error, ValueError, OverflowError, RecursionError) as exc:
            raise UsageError(f"{text[:80]!r} is not a regular expression we try: {exc}") from None
        self._spent_s = 0.0

    def search(self, text: str) -> bool:
        """Is it somewhere in the text?"""
        if self._spent_s > BUDGET_S:
            raise UsageError(f"{self._text[:80]!r} takes too long", fix="use fewer repeats (* and +)")
        began = self._clock()
        found = self._compiled.search(text[:LONGEST_TEXT])
        self._spent_s += self._clock() - began
        return found is not None


def _check(text: str) -> None:
    """ValueError for what could take for ever."""
    repeats = 0
    for name, argument in _walk(re._parser.parse(text)):  # type: ignore[attr-defined]
        if name in _REFUSED:
            raise ValueError(f"it holds {_REFUSED[name]}")
        if name in _REPEATS:
            repeats += 1
            most, inner = int(argument[1]), list(argument[2])
            if most > 1 and (len(inner) != 1 or str(inner[0][0]) not in _SINGLE):
                raise ValueError("only one character or class [...] may be repeated, not a group")
    if repeats > MOST_REPEATS:
        raise ValueError(f"more than {MOST_REPEATS} repeats (*, +, ?, {{}})")


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every operation of a parsed pattern, at any depth."""
    for operation, argument in tree:
        yield str(operation), argument
        for inner in _inside(argument):
            yield from _walk(inner)


def _inside(argument: Any) -> Iterator[Any]:
    """The patterns below an operation: of a group, of a repeat, of each branch."""
    parts = argument if isinstance(argument, (tuple, list)) else ()
    for part in parts:
        if isinstance(part, re._parser.SubPattern):  # type: ignore[attr-defined]
            yield part
        elif isinstance(part, list):
            yield from (branch for branch in part if isinstance(branch, re._parser.SubPattern))  # type: ignore[attr-defined]
