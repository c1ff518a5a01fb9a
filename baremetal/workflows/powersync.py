"""Background look at the power of nodes at rest: reports drift, and BMCs that went silent.

Never waits for one BMC before asking the next, never switches anything unless
the policy says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.bmc.faults import BmcError
from baremetal.lifecycle import Phase
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, Power, State
from baremetal.store import StoreError, events, nodes
from baremetal.workflows import faults, ids
from baremetal.workflows.passes import World

log = logging.getLogger(__name__)

PAGE = 100  # nodes read at once
SPREAD = 0.9  # of the period: a rack is looked at evenly, not in one burst
MISSES = 3  # silences in a row before a node at rest gets a fault


class PowerSync:
    """Looks at every node at rest once a period."""

    def __init__(
        self,
        world: World,
        changed: Callable[[str], None],
    ) -> None:
        self._world = world
        self._changed = changed
        self._misses: dict[str, int] = {}

    async def run(self) -> None:
        """For ever."""
        period_s = self._world.policy.power_sync_s
        await asyncio.sleep(period_s)
        while True:
            begun = time.monotonic()
            try:
                await self.once(spread_s=SPREAD * period_s)
            except StoreError as exc:
                log.warning("power sync waits: %s", exc.brief)
            except Exception:
                log.exception("power sync failed; again in %.0f s", period_s)
            await asyncio.sleep(max(0.1, begun + period_s - time.monotonic()))

    async def once(self, spread_s: float = 0.0) -> int:
        """One round, spread over so many seconds; how many nodes were asked."""
        mine = await asyncio.to_thread(self._world.share)
        count = await self._world.store.fetch(nodes.count)
        workers = self._world.policy.power_sync_workers
        live, dead = asyncio.Semaphore(workers), asyncio.Semaphore(workers)
        begun, seen, asked, after = time.monotonic(), 0, 0, ""
        looks: set[asyncio.Task[None]] = set()
        while page := await self._world.store.fetch(lambda c, after=after: nodes.page(c, after=after, limit=PAGE)):  # type: ignore[misc]
            after, seen = page[-1].name, seen + len(page)
            for node in page:
                if _at_rest(node) and mine(node.id):
                    asked += 1
                    gate = dead if self._misses.get(node.id, 0) >= MISSES else live  # silent ones delay only each other
                    looks.add(asyncio.create_task(self._guarded(gate, node)))
            _, looks = await asyncio.wait(looks, timeout=0) if looks else (None, looks)
            if spread_s:
                await asyncio.sleep(max(0.0, begun + spread_s * seen / max(count, 1) - time.monotonic()))
        await asyncio.gather(*looks)
        return asked

    async def _guarded(self, gate: asyncio.Semaphore, node: Node) -> None:
        async with gate:
            try:
                await self._look(node)
            except Exception:
                log.exception("power of %s could not be looked at; again in the next round", node.name)

    async def _look(self, node: Node) -> None:
        world = self._world
        world.may()
        try:
            seen = await world.driver(node).power()
        except BmcError as exc:
            await self._silent(node, exc)
            return
        self._misses.pop(node.id, None)
        recovered = faults.passes(node)
        if seen is node.power and not recovered:
            return
        await world.store.write(lambda c: self._seen(c, node, seen, recovered))
        self._changed(node.id)

    def _seen(self, conn: Connection, node: Node, seen: Power, recovered: bool) -> None:
        if nodes.fence(conn, node.id) != node.fence:
            return  # a pass works on it: it looks itself
        now = self._world.now()
        nodes.see(conn, node.id, power=str(seen), power_seen_at=now, **({"fault": None} if recovered else {}))
        if seen is not node.power:
            drift = Event(
                ids.ulid(now), now, node.id, Kind.POWER, str(seen), "bmc", "drift", data={"was": str(node.power)}
            )
            events.add_all(conn, [drift])
            if self._world.policy.force_power and node.power is not Power.UNKNOWN and seen is not Power.UNKNOWN:
                nodes.note(conn, node.id, now, power_wanted=str(node.power))

    async def _silent(self, node: Node, exc: BmcError) -> None:
        misses = self._misses[node.id] = self._misses.get(node.id, 0) + 1
        if misses < MISSES or node.fault is not None:
            return
        world = self._world
        fault = faults.from_error(exc, world.now(), misses=misses)

        def write(conn: Connection) -> None:
            if nodes.fence(conn, node.id) != node.fence:
                return
            nodes.see(conn, node.id, fault=fault.to_json(), power=str(Power.UNKNOWN))
            told = Event(
                ids.ulid(world.now()),
                world.now(),
                node.id,
                Kind.FAULT,
                fault.code,
                "bmc",
                "failed",
                fault_code=fault.code,
                data={"brief": fault.brief},
            )
            events.add_all(conn, [told])

        await world.store.write(write)
        self._changed(node.id)


def _at_rest(node: Node) -> bool:
    """Nobody works on it, and its BMC answered once."""
    if not node.bmc_url or node.bmc_url.startswith("manual:") or node.wanted or node.power_wanted:
        return False
    return lifecycle.phase(node) in (Phase.STABLE, Phase.FAILED) and node.state is not State.ENROLL
