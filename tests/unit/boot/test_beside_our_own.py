"""DHCP beside another server of the same site: one gives out the range, all answer machines with a fixed address."""

from __future__ import annotations

from typing import Any

from baremetal.model.boot import BootRecord, Purpose
from baremetal.wire.dhcp4 import packet as p

A, B = "52:54:00:00:00:01", "52:54:00:00:00:02"
FIXED = BootRecord("id1", "n1", (A,), None, purpose=Purpose.DISK, because="it boots its disk", address="10.0.0.50")


def test_a_server_without_the_range_answers_fixed_addresses_only(rig: Any, clients: Any) -> None:
    rig.server.update([FIXED])
    rig.server.no_range = {"prov"}
    assert rig.lease(A, clients["uefi"]).yiaddr == "10.0.0.50"
    assert rig.ask(p.DISCOVER, B, clients["uefi"]) is None
    asked = {**clients["uefi"], 50: p.packed("10.0.0.105")}
    assert rig.ask(p.REQUEST, B, asked) is None  # no NAK either: the other server gave it that
    rig.server.no_range = set()
    assert rig.ask(p.DISCOVER, B, clients["uefi"]).yiaddr == "10.0.0.100"


def test_two_servers_give_a_known_machine_the_same_answer(rig: Any, clients: Any) -> None:
    rig.server.update([FIXED])
    first = rig.ask(p.DISCOVER, A, clients["uefi"])
    rig.server.no_range = {"prov"}
    second = rig.ask(p.DISCOVER, A, clients["uefi"])
    assert (first.yiaddr, first.options) == (second.yiaddr, second.options)


def test_a_server_that_is_cut_off_says_nothing_to_anybody(rig: Any, clients: Any) -> None:
    rig.server.update([FIXED])
    rig.server.silent = "the database is away"
    assert rig.ask(p.DISCOVER, A, clients["uefi"]) is None
    assert rig.ask(p.DISCOVER, B, clients["plain"]) is None
    rig.server.silent = ""
    assert rig.ask(p.DISCOVER, A, clients["uefi"]) is not None
