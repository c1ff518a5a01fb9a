"""The crash matrix of the embedded engine, unchanged, over procrastinate and PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from baremetal.engine.cluster import Cluster
from baremetal.store import Store
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.simulated import SimulatedImages, SimulatedRack

pytestmark = pytest.mark.integration

_FILE = Path(__file__).parents[2] / "contract/engine/test_crash_matrix.py"
_spec = importlib.util.spec_from_file_location("crash_matrix_pg", _FILE)
assert _spec
assert _spec.loader
crash = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(crash)
_numbers = itertools.count(1)


@pytest.fixture
def databases(cluster: Any, template: str) -> Iterator[Callable[[Path], str]]:
    """One database for each directory that the suite makes."""
    made: dict[Path, str] = {}

    def of(path: Path) -> str:
        if path not in made:
            made[path] = f"crash{next(_numbers)}"
            cluster.sql(f"CREATE DATABASE {made[path]} TEMPLATE {template}")
        return str(cluster.url(made[path]))

    yield of
    for name in made.values():
        cluster.sql(f"DROP DATABASE {name} WITH (FORCE)")


def server_class(of: Callable[[Path], str]) -> type:
    """The suite's Server over the shared engine."""

    class PostgresServer(crash.Server):  # type: ignore[misc,name-defined]
        def __init__(self, path: Path, fate: Any) -> None:
            self.fate = fate
            self.cluster = Cluster(of(path), name="one", version="0.1.0", site="test")
            with patched(crash.FatefulStore):
                self.store = self.cluster.open_store()
            self.store.fate = crash.Fate(0)
            self.cluster.join()
            self.store.fate = fate
            self.con = Conductor(
                store=self.store,
                keys=crash.KEYS,
                bmc=crash.Drivers(fate),
                site=crash.SITE,
                images=SimulatedImages(),
                policy=crash.POLICY,
                cluster=self.cluster,
            )

        async def bury(self) -> None:
            """Its tasks end wherever they are, its sessions break; it says goodbye to nobody."""
            self.fate.dead = True
            engine: Any = self.con.engine
            engine._stopping = True
            tasks = [*self.con._tasks, *engine._main, *engine._running.values()]
            if self.cluster._listener:
                tasks.append(self.cluster._listener._task)
            if engine._worker is not None:
                engine._worker.shutdown_graceful_timeout = 0.0
            for task in tasks:
                task.cancel()
            self.cluster.lease.abandon()
            _, alive = await asyncio.wait(tasks, timeout=90) if tasks else (None, None)
            assert not alive, f"cancelled, and yet alive: {alive}"
            with contextlib.suppress(Exception):
                await engine._app.close_async()
            self.store.close()

    return PostgresServer


@contextlib.contextmanager
def patched(kind: Any) -> Iterator[None]:
    """Cluster opens a Store; here it opens this kind."""
    import baremetal.engine.cluster as module

    plain = module.Store
    module.Store = kind
    try:
        yield
    finally:
        module.Store = plain


@pytest.mark.parametrize("name", crash.WORKFLOWS)
@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.slow)])
async def test_no_effect_is_a_bad_place_to_die(
    tmp_path: Path, name: str, stride: int, databases: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the gate at every 13th effect; `--ring slow` at each, which takes minutes."""
    monkeypatch.setattr(crash, "Server", server_class(databases))
    wishes, skip, goal = crash.WORKFLOWS[name]
    total, strike = 0, 0
    while strike <= total:
        rack = SimulatedRack(None)  # type: ignore[arg-type]
        box = rack.add("n1")
        path = tmp_path / str(strike)
        node, seen = await crash._live(path, rack, [("enroll", rack.body("n1")), *wishes[1:]], strike, skip)
        await rack.close()
        assert node.fault is None, f"died at effect {strike} of {total}: {node.fault}"
        assert str(node.state) == goal
        assert len(box.bmc.starts) <= 5
        assert box.written <= 2
        total = total or len(seen)
        strike += stride
    assert total >= 3


def test_the_store_of_the_suite_is_a_store() -> None:
    assert issubclass(crash.FatefulStore, Store)
