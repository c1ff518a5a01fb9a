"""A pass that is cut off after its commit: what it stored is shown to the boot plane all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from baremetal.store import StoreError


async def test_every_answer_to_a_commit_is_lost_and_the_node_gets_there(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the lease runs out, or the database goes just then: stored, but the pass never hears of it."""
    monkeypatch.setattr("baremetal.engine.embedded.CRASH_PAUSE_S", 0.01)
    cuts = cut_off(bench.store)
    node = await bench.to("n1", "active")
    assert node.fault is None
    assert len(cuts) > 10
    assert bench.rack.boxes["n1"].written == 1


def cut_off(store: Any) -> list[str]:
    """Let every commit of a pass succeed, and tell the pass that it failed; what was cut off."""
    plain, cuts = store.write, []

    async def write(write: Callable[[Any], Any]) -> Any:
        result = await plain(write)
        task = asyncio.current_task()
        if task and task.get_name().startswith("pass-"):
            cuts.append(task.get_name())
            raise StoreError("the answer to COMMIT was lost")
        return result

    store.write = write
    return cuts
