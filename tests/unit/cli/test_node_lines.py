"""What lists say of a node in one line: true while it goes on after trouble, and who asked."""

from __future__ import annotations

import pytest

from baremetal.cli import board, nodelook

FAULT = {"code": "boot-no-dhcp", "brief": "n1: no DHCP request was seen"}
WAIT = {"because": "it must be seen on the network", "until": 9.0, "since": 1.0}
NODE = {"name": "n1", "state": "cleaning", "step": "clean.boot_ramdisk", "wanted": "provide", "progress": None}
CASES = [
    ({"phase": "failed", "fault": FAULT, "wait": None, "wanted": None}, "failed: n1: no DHCP", "n1: no DHCP"),
    (
        {"phase": "waiting", "fault": FAULT, "wait": WAIT},
        "cleaning · clean.boot_ramdisk",
        "clean.boot_ramdisk: it must",
    ),
    ({"phase": "working", "fault": FAULT, "wait": None}, "cleaning · clean.boot_ramdisk", "clean.boot_ramdisk"),
]


@pytest.mark.parametrize(("fields", "listed", "watched"), CASES)
def test_a_node_that_goes_on_is_not_called_failed(fields: dict, listed: str, watched: str) -> None:
    node = NODE | fields
    assert nodelook.now_of(node).startswith(listed)
    assert board.doing(node).startswith(watched)
    assert FAULT["brief"] in nodelook.now_of(node)


def test_an_event_says_who_asked_and_leaves_blanks_out() -> None:
    event = {"time": 0.0, "node": "n1", "kind": "verb", "stage": "provide", "source": "ann", "data": {"args": {}}}
    assert nodelook.event_line(event).endswith("n1  verb provide by ann")
