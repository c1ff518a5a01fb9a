"""Choosing nodes by names with ranges and by conditions."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baremetal.errors import UsageError
from baremetal.model.fault import Fault
from baremetal.model.node import Node, State, Wait
from baremetal.workflows import where

NAMES = [
    (["r1-u[01-03]"], ["r1-u01", "r1-u02", "r1-u03"]),
    (["r[1-2]-u[1,3]"], ["r1-u1", "r1-u3", "r2-u1", "r2-u3"]),
    (["a,b", "b,c"], ["a", "b", "c"]),
    (["u[08-11]"], ["u08", "u09", "u10", "u11"]),
    (["plain"], ["plain"]),
]


@pytest.mark.parametrize(("patterns", "names"), NAMES)
def test_ranges(patterns: list[str], names: list[str]) -> None:
    assert where.expand(patterns) == names


@pytest.mark.parametrize(
    "text", ["r[1-", "r]1[", "r[a-b]", "r[]", "u[3-1]", "r[1-9999999999]", "x[1][", "u[0-99999][0-99999]"]
)
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
    ("state!='deploy failed'", False),
    ("state~failed$", True),
    ("fault", True),
    ("maintenance", False),
    ("fault and not maintenance", True),
    ("(retired or label.rack) and class=compute", True),
    ("label.role and label.colour", False),
]
IMAGES = [
    ("image=web", True),
    ("image=0af1", True),
    ("image!=web", False),
    ("image~^we", True),
    ("image=db", False),
    ("not image", False),
]


@pytest.mark.parametrize(("text", "result"), IMAGES)
def test_an_image_is_meant_by_its_name_or_its_id(text: str, result: bool) -> None:
    node = dataclasses.replace(ONE, image_id="0af1")
    assert where.parse(text, {"0af1": "web"})(node) is result


WAITS = dataclasses.replace(
    ONE, state=State.CLEANING, fault=None, wanted="provide", wait=Wait("the agent cleans", 9.0, 1.0), labels={}
)


@pytest.mark.parametrize(("text", "result"), CONDITIONS)
def test_conditions(text: str, result: bool) -> None:
    assert where.parse(text)(ONE) is result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("state=cleaning", True),
        ("state='clean wait'", True),
        ("state!=cleaning", False),
        ("state='clean failed'", False),
    ],
)
def test_a_waiting_node_is_found_by_both_names_of_its_state(text: str, result: bool) -> None:
    assert where.parse(text)(WAITS) is result


@pytest.mark.parametrize(
    ("text", "said"),
    [("state=avialable", "did you mean available"), ("power=up", "one of: off, on"), ("retired=yes", "false, true")],
)
def test_a_value_that_no_node_can_have_is_told(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        where.parse(text)
    assert said in caught.value.brief + caught.value.fix


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
