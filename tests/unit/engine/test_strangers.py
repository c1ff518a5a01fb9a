"""Machines nobody knows are remembered, as many as are of use: their addresses can be invented."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import Connection

from baremetal.store import wire_seen


async def test_those_not_seen_for_longest_go(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_seen, "MOST_STRANGERS", 50)

    def flood(conn: Connection) -> None:
        for n in range(500):
            wire_seen.meet(conn, f"52:54:00:00:{n >> 8:02x}:{n & 255:02x}", float(n))
            wire_seen.meet(conn, "52:54:00:ff:ff:ff", float(n), arch="uefi-x64")

    await bench.store.write(flood)
    found = bench.store.read(wire_seen.all_strangers)
    assert len(found) <= 50
    assert {row["mac"] for row in found} >= {"52:54:00:ff:ff:ff", "52:54:00:00:01:f3"}
