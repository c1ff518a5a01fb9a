"""Choosing nodes by names with ranges and by conditions."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baremetal.errors import UsageError
from baremetal.model.fault import Fault
from baremetal.model.node import Node, State
from baremetal.workflows import where

NAMES = [
    (["r1-u[01-03]"], ["r1-u01", "r1-u02", "r1-u03"]),
    (["r[1-2]-u[1,3]"], ["r1-u1", "r1-u3", "r2-u1", "r2-u3"]),
    (["a,b", "b,c"], ["a", "b", "c"]),
    (["u[08-11]"], ["u08", "u09", "u10", "u11"]),
    (["u[3-1]"], []),
    (["plain"], ["plain"]),
]


@pytest.mark.parametrize(("patterns", "names"), NAMES)
def test_ranges(patterns: list[str], names: list[str]) -> None:
    assert where.expand(patterns) == names


@pytest.mark.parametrize("text", ["r[1-", "r]1[", "r[a-b]", "r[]", "r[1-9999999999]", "x[1][", "u[0-99999][0-99999]"])
def test_bad_ranges_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        where.expand([text])


ONE = Node(
    "id",
    "r1-u07",
    state=State.DEPLOYING,
    resource_class="compute",
    traits=("CUSTOM_SSD",),
    labels={"role": "web", "rack": "r1"},
    fault=Fault("bmc-auth", "x"),
)
CONDITIONS = [
    ("class=compute", True),
    ("state='deploy failed'", True),
    ("state=deploying", False),
    ("class=compute and state=available", False),
    ("class=gpu or role=web", True),
    ("not class=compute", False),
    ("not (class=gpu or role=db) and label.rack=r1", True),
    ("trait=CUSTOM_SSD", True),
    ("trait!=CUSTOM_SSD", False),
    ("name~^r1-", True),
    ("fault=bmc-auth", True),
    ("maintenance=true", False),
]


@pytest.mark.parametrize(("text", "result"), CONDITIONS)
def test_conditions(text: str, result: bool) -> None:
    assert where.parse(text)(ONE) is result


@pytest.mark.parametrize(
    "text", ["", "colour=red", "class=", "class=a and", "(class=a", "class=a b=c", "name~[", "and"]
)
def test_bad_conditions_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        where.parse(text)
    assert caught.value.fix or caught.value.brief


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        where.parse(text)(ONE)


@given(st.text(alphabet="ab01[]-,", max_size=16))
def test_any_text_is_names_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        where.expand([text])
