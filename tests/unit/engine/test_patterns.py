"""Regular expressions of operators and observers: the useful ones work, none holds up the server."""

from __future__ import annotations

import pytest

from baremetal.errors import UsageError
from baremetal.model import facts
from baremetal.model.node import Node
from baremetal.model.patterns import Pattern
from baremetal.workflows import where

USEFUL = [  # pattern, a text it is in
    ("^r1-u0[1-9]$", "r1-u07"),
    ("^rack(7|8)-", "rack8-u01"),
    ("r1-.*-u.*", "r1-a-u1"),
    ("^(?:r1|r2)-u[0-9]+$", "r2-u17"),
    ("PowerEdge R6[0-9]{2}(xd)?", "PowerEdge R640xd"),
    (r"\d{2,3} GiB", "128 GiB"),
]
REFUSED = [
    "^(a+)+$",
    "(a|a)*$",
    "(a?b?)+c",
    "(a*)*",
    ".*a.*b.*c.*",
    r"(\w)\1",
    "(?=a)b",
    "x" * 501,
    "[",
]


@pytest.mark.parametrize(("pattern", "text"), USEFUL)
def test_useful_patterns_work(pattern: str, text: str) -> None:
    assert Pattern(pattern).search(text)
    assert not Pattern(pattern).search("?")


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        Pattern(pattern)
    with pytest.raises(UsageError):
        where.parse(f'id~"{pattern}"')
    with pytest.raises(UsageError):
        facts.check_condition({"field": "cpu.model_name", "op": "contains", "value": pattern})


def test_a_pattern_that_is_slow_on_many_nodes_ends() -> None:
    test = where.parse('label.x~".*a.*b.*c"')
    nodes = [Node("1", "n", labels={"x": "ab" * 500})] * 100_000
    with pytest.raises(UsageError, match="takes too long"):
        [node for node in nodes if test(node)]
