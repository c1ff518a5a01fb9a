"""What the engine port promises, by the tests of the embedded engine, unchanged, over procrastinate."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baremetal.engine import embedded, shared
from baremetal.engine.cluster import Cluster

pytestmark = pytest.mark.integration

_FILE = Path(__file__).parents[2] / "unit/engine/test_engine_port.py"
_spec = importlib.util.spec_from_file_location("engine_port_pg", _FILE)
assert _spec
assert _spec.loader
port = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(port)
_TESTS = [name for name, test in vars(port).items() if name.startswith("test_") and inspect.iscoroutinefunction(test)]


@pytest.fixture
def joined(database: str) -> Iterator[Cluster]:
    cluster = Cluster(database, name="one", version="0.1.0", site="test")
    cluster.open_store()
    cluster.join()
    yield cluster
    cluster.leave()
    assert cluster.store is not None
    cluster.store.close()


@pytest.mark.parametrize("name", _TESTS)
async def test_the_same_promise(joined: Cluster, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(run: Any, due: Any, clock: Any, **options: Any) -> shared.SharedEngine:
        monkeypatch.setattr(shared, "CRASH_PAUSE_S", embedded.CRASH_PAUSE_S)
        assert joined.store is not None
        return shared.SharedEngine(
            run, due, clock, store=joined.store, lease=joined.lease, url=joined.url, tell=lambda *_: None, **options
        )

    monkeypatch.setattr(port, "EmbeddedEngine", make)
    test = getattr(port, name)
    await test(*([monkeypatch] if inspect.signature(test).parameters else []))


def test_there_are_promises_to_keep() -> None:
    assert len(_TESTS) >= 5
