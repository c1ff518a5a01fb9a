"""A pass whose result the database cannot hold ends in a fault; it is not tried for ever without a word."""

from __future__ import annotations

from typing import Any

import pytest

from baremetal.model.event import Kind
from baremetal.store import BadValue
from baremetal.workflows import inspection, runner
from baremetal.workflows.passes import Pass

UNFIT = [  # columns of the node that a workflow might set from what a machine said
    {"serial": {"a": 1}},
    {"serial": "\ud800"},
    {"power_seen_at": "\ud800"},
]


@pytest.mark.parametrize("columns", UNFIT)
async def test_it_ends_in_a_fault(bench: Any, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any]) -> None:
    def learn(p: Pass, inventory: dict[str, Any]) -> None:
        p.event(Kind.INVENTORY, "stored")
        p.change(**columns)

    monkeypatch.setattr(inspection, "learn", learn)
    monkeypatch.setattr(runner, "CRASHES", 2)
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "inspect")
    node = await bench.when("n1", lambda n: n.wanted is None, 30.0)
    assert node.fault is not None
    assert node.fault.code == "internal"


async def test_a_value_that_does_not_fit_is_no_database_that_is_away(bench: Any) -> None:
    with pytest.raises(BadValue):
        await bench.store.write(lambda c: c.exec_driver_sql("UPDATE nodes SET serial = ?", ({"a": 1},)))
