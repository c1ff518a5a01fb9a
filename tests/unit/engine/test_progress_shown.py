"""How far an agent is, in words and on the timeline."""

from __future__ import annotations

from typing import Any

import pytest

from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, State
from baremetal.workflows import timeline

MIB = 1 << 20
WRITE = {"stage": "write", "total": 516 * MIB, "unit": "bytes"}
FAR = [
    ({**WRITE, "done": 230 * MIB, "rate": 28 * MIB}, "write 230 of 516 MiB, 28 MiB/s"),
    ({**WRITE, "done": 0}, "write 0 of 516 MiB"),
    ({"stage": "clean", "done": 1, "total": 3, "unit": "disks", "rate": 0}, "clean 1 of 3 disks"),
    ({"stage": "firmware", "done": 0, "total": 0, "unit": ""}, "firmware"),
    ({}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("progress", "words"), FAR)
def test_in_words(progress: dict[str, Any], words: str) -> None:
    assert timeline.far(progress) == words


def test_beside_the_step_that_runs() -> None:
    node = Node("n", "r1-u07", state=State.DEPLOYING, wanted="deploy", step="deploy.write_image")
    told = [
        Event("1", 1.0, "n", Kind.STATE, "deploying", "control"),
        Event("2", 2.0, "n", Kind.STEP, "deploy.write_image", "control", outcome="begin"),
    ]
    stages = timeline.of_events(told, node, 5.0, FAR[0][0])
    assert [s.detail for s in stages if s.outcome == "running"] == [FAR[0][1]]
