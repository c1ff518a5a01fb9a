"""Messages of boot planes on PostgreSQL: without savepoints until one of them cannot be understood."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from baremetal.model.event import Kind
from baremetal.model.node import Node
from baremetal.protocol.plane import Message
from baremetal.store import events, nodes, opened
from baremetal.store.seal import Sealer
from baremetal.workflows.conductor import NoImages
from baremetal.workflows.inbox import Inbox
from baremetal.workflows.passes import World
from baremetal.workflows.policy import Policy
from baremetal.workflows.simulated import FakeDrivers
from baremetal.workflows.site import Site

pytestmark = pytest.mark.integration


def world(store: Any) -> World:
    sealer = Sealer(b"k" * 32)
    return World(store, sealer, sealer, b"", Site(), Policy(), FakeDrivers(), NoImages(), lambda: 100.0)


async def test_one_that_nobody_understands_is_dropped_and_takes_no_other_with_it(database: str) -> None:
    with opened(database) as store:
        store.write_sync(lambda c: nodes.insert(c, Node("n", "n")))
        inbox = Inbox(world(store), lambda due, changed: None)
        seen = {"mac": "02:00:00:00:00:01", "arch": "bios", "loader": "firmware"}
        batch = [
            Message("1", "boot-seen", 1.0, "n", seen),
            Message("2", "report", 2.0, "n", {"report": {"order_id": "none", "outcome": "done", "data": {}}}),
            Message("3", "boot-seen", 3.0, "gone", seen),
        ]
        await inbox.messages(batch)
        await inbox.messages([dataclasses.replace(batch[0])])  # a repeated message
        stored = [event for _, event in store.read(lambda c: events.after(c, 0))]
    assert [(e.id, e.kind, e.stage, e.node_id) for e in stored] == [
        ("m-1", Kind.DHCP, "bios firmware", "n"),
        ("m-2", Kind.SERVER, "message-dropped", "n"),
        ("m-3", Kind.DHCP, "bios firmware", None),
    ]
