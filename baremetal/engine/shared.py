"""The engine of several servers: ticks are procrastinate's jobs, timers are in the node rows.

A tick runs a node's passes until the node waits; procrastinate lets one tick of a node run at
a time, on whichever server. The server that runs a node's workflow drives it: later
ticks come to its own queue, until the node rests or the server's life ends. Due times are
kept here too, but only to be exact: a sweep finds every node that is overdue.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Status
from procrastinate.worker import Worker

from baremetal.engine import jobs, takeover
from baremetal.engine.clock import Clock
from baremetal.engine.lease import TAKEOVER_S, Lease, boottime
from baremetal.engine.lostticks import LostTicks
from baremetal.engine.port import Due, EngineStats, Run
from baremetal.engine.ringer import Ringer
from baremetal.engine.timers import Timers
from baremetal.store import Store, StoreError, servers

log = logging.getLogger(__name__)

SWEEP_S = 2.0
OVERDUE_S = 1.5  # the driver's own timer was due so long ago: it does not look any more
PASS_S = 300.0
CHAIN = 12  # passes in a row over one node before others get their turn
STOP_S = 1.0  # what running ticks get when the server stops: enough to store, not to wait for a silent BMC
CLOSE_S = 4.0  # … and what saying so to the database may take
CRASH_PAUSE_S = 10.0
AWAY_PAUSE_S = 1.0  # the database is away
BATCH = 200
WATCH_S = 0.2
CONNECTIONS = 6

Tell = Callable[[str, dict[str, Any], Sequence[str]], None]  # what happened, facts, nodes it happened to


class SharedEngine:
    """Runs ticks on this loop, at most `workers` at once, for as long as the lease is held."""

    def __init__(
        self,
        run: Run,
        due: Due,
        clock: Clock,
        *,
        store: Store,
        lease: Lease,
        url: str,
        tell: Tell,
        resumed: Callable[[], None] = lambda: None,
        workers: int = 64,
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._run, self._due, self._clock, self._tell, self._resumed = run, due, clock, tell, resumed
        self._store, self._lease, self._me = store, lease, lease.me.id
        self._workers, self._sweep_s = workers, sweep_s
        self._app = jobs.make_app(url, self._me, CONNECTIONS, lease.watch_one)
        self._app.task(self._tick, name=jobs.TASK, pass_context=False)
        logging.getLogger("procrastinate").setLevel(logging.WARNING)
        self._wanted: dict[str, tuple[float, bool]] = {}  # node -> (since, urgent): to be put into a queue
        self._swept: set[str] = set()  # of those, the ones that a sweep found
        self._timers = Timers()
        self._driven: set[str] = set()
        self._changed, self._timed = asyncio.Event(), asyncio.Event()
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._ringer = Ringer(self._ring, self._running)
        self._lost = LostTicks()
        self._main: list[asyncio.Task[None]] = []
        self._worker: Worker | None = None
        self._stopping = False  # every loop asks it: below 3.12 the queue's pool can swallow a cancellation (wait_for)
        self._passes = self._crashes = 0
        self._late: deque[float] = deque(maxlen=2000)

    def wake(self, node_id: str, at: float | None = None, *, urgent: bool = False) -> None:
        """Due at `at` (Unix seconds of the database), or now."""
        now = self._clock.now()
        if at is not None and at > now:
            if self._timers.set(node_id, at):
                self._timed.set()
            return
        self._swept.discard(node_id)
        since, was = self._wanted.get(node_id, (at or now, False))
        self._wanted[node_id] = (since, urgent or was)
        self._changed.set()

    def heard(self, node_ids: Iterable[str]) -> None:
        """Another server stored something of these; when we drive one, a tick of it may be in our queue."""
        self._ringer.ask(self._driven.intersection(node_ids))

    async def start(self) -> None:
        """Take what is due from the store and begin."""
        try:
            await self._app.open_async()
        except Exception as exc:
            raise StoreError(f"the queue cannot be opened: {exc}", fix="is PostgreSQL there?") from exc
        await self.adopt()
        await self._sweep(0.0)
        loops = (self._deferring, self._timing, self._sweeping, self._working, self._watching, self._taking_over)
        self._main = [asyncio.create_task(loop(), name=f"engine-{loop.__name__.strip('_')}") for loop in loops]

    async def stop(self) -> None:
        """Start nothing new; wait for the ticks that run."""
        self._stopping = True
        self._ringer.stop()
        if self._worker is not None:
            self._worker.stop()
        for task in self._main:
            if task.get_name() != "engine-working":
                task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S + CLOSE_S):
                await asyncio.gather(*self._main, return_exceptions=True)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await self._app.close_async()

    def stats(self) -> EngineStats:
        """What this server did and has before it."""
        return EngineStats(
            len(self._wanted) + len(self._timers), len(self._running), self._passes, self._crashes, tuple(self._late)
        )

    # -- one tick ----------------------------------------------------------------

    async def _tick(self, node: str, at: float) -> None:
        """procrastinate's task. Whatever happens in it, the node is not lost: its row says when it is due."""
        self._lease.check()
        self._late.append(max(0.0, self._clock.now() - at))
        task = asyncio.current_task()
        assert task is not None
        self._running[node] = task
        self._ringer.begun(node)
        try:
            await self._drive(node)
            next_at = await self._passes_over(node)
            if next_at is None:
                await self._rest(node)
            else:
                self.wake(node, next_at)
        except asyncio.CancelledError:
            if self._stopping:
                raise
            self.wake(node, self._clock.now() + AWAY_PAUSE_S)  # the lease ran out under it
        except StoreError as exc:
            log.warning("tick of node %s: %s; again in %.0f s", node, exc.brief, AWAY_PAUSE_S)
            self.wake(node, self._clock.now() + AWAY_PAUSE_S)
        except Exception:
            log.exception("tick of node %s crashed; again in %.0f s", node, CRASH_PAUSE_S)
            self._crashes += 1
            self.wake(node, self._clock.now() + CRASH_PAUSE_S)
        finally:
            self._running.pop(node, None)
            self._ringer.ended(node)
        # A life that is over must not mark a tick as done that another server runs again.
        while not self._lease.held():  # noqa: ASYNC110 (the lease lives in a thread)
            await asyncio.sleep(WATCH_S)

    async def _passes_over(self, node: str) -> float | None:
        next_at: float | None = 0.0
        for _ in range(CHAIN):
            self._lease.check()
            async with asyncio.timeout(PASS_S):
                next_at = await self._run(node)
            self._passes += 1
            if next_at is None or next_at > self._clock.now() or self._stopping:
                break
        return next_at

    async def _drive(self, node: str) -> None:
        self._timers.drop(node)
        if node not in self._driven:
            await self._app.connector.execute_query_async(jobs.DRIVE, node=node, me=self._me)
            self._driven.add(node)

    async def _rest(self, node: str) -> None:
        self._driven.discard(node)
        await self._app.connector.execute_query_async(jobs.REST, node=node, me=self._me)

    # -- into the queues -----------------------------------------------------------

    async def _deferring(self) -> None:
        while not self._stopping:
            await self._changed.wait()
            self._changed.clear()
            while self._wanted:
                batch = dict(list(self._wanted.items())[:BATCH])
                swept = self._swept & batch.keys()
                for node in batch:
                    del self._wanted[node]
                self._swept -= swept
                try:
                    await self._defer(batch, swept)
                except Exception as exc:
                    log.warning("%d ticks could not be asked for: %s; again soon", len(batch), exc)
                    self._wanted = batch | self._wanted
                    await asyncio.sleep(AWAY_PAUSE_S)

    async def _defer(self, batch: dict[str, tuple[float, bool]], swept: set[str]) -> None:
        if not swept and self._driven.issuperset(batch):  # ours: nothing to ask
            made = [jobs.job(self._app, n, since, self._me, urgent=urgent) for n, (since, urgent) in batch.items()]
            with contextlib.suppress(AlreadyEnqueued):
                await self._app.job_manager.batch_defer_jobs_async(jobs=made)
                self._ringer.ask(batch)
                return
        rows = await self._app.connector.execute_query_all_async(jobs.LOOK, ids=list(batch))
        made = []
        for row in rows:
            node, (since, urgent) = row["node"], batch[row["node"]]
            if row["waits"] or (row["runs"] and node in swept):
                continue
            if node in self._driven and row["server"] != self._me:
                self._driven.discard(node)
            made.append(jobs.job(self._app, node, since, row["server"] or jobs.ANY, urgent=urgent))
        hurried = [row["node"] for row in rows if row["waits"] and batch[row["node"]][1]]
        if hurried:
            await self._app.connector.execute_query_async(jobs.HURRY, ids=hurried, urgent=jobs.URGENT)
        if not made:
            return
        try:
            await self._app.job_manager.batch_defer_jobs_async(jobs=made)
        except AlreadyEnqueued:  # another server was faster with one of them
            for one in made:
                with contextlib.suppress(AlreadyEnqueued):
                    await self._app.job_manager.batch_defer_jobs_async(jobs=[one])
        self._ringer.ask(one.lock for one in made if one.lock and one.queue in (self._me, jobs.ANY))

    # -- time ------------------------------------------------------------------------

    async def _timing(self) -> None:
        while not self._stopping:
            self._timed.clear()
            for node, at in self._timers.due(self._clock.now()):
                self.wake(node, at)
            left = self._timers.left_s(self._clock.now())
            with contextlib.suppress(TimeoutError):  # not wait_for: before 3.12 it can swallow a cancellation
                async with asyncio.timeout(None if left is None else min(left, self._sweep_s)):
                    await self._timed.wait()

    async def _sweeping(self) -> None:
        while not self._stopping:
            await asyncio.sleep(self._sweep_s)
            try:
                await self._sweep(OVERDUE_S)
                await self._find_lost()
            except Exception as exc:
                log.warning("sweep failed: %s; again in %.0f s", exc, self._sweep_s)

    async def _sweep(self, overdue_s: float) -> None:
        """Nodes that are overdue: a call was forgotten, or who kept their time is gone."""
        for node, at in await self._due(self._clock.now() - overdue_s):
            if node not in self._running and node not in self._wanted:
                self.wake(node, at)
                self._swept.add(node)

    async def _find_lost(self) -> None:
        worker = self._worker
        if worker is None or worker.worker_id is None:
            return
        rows = await self._app.connector.execute_query_all_async(jobs.OURS, worker=worker.worker_id)
        nodes = {int(row["id"]): str(row["node"]) for row in rows}
        run = {context.job.id for context in worker._running_jobs.values()}
        for job in self._lost.look(nodes, run, boottime()):
            log.warning("a tick of node %s was lost between us and the database: another is asked for", nodes[job])
            await self._forget(job, nodes[job])

    async def _forget(self, job: int, node: str) -> None:
        await self._app.job_manager.finish_job_by_id_async(job, Status.FAILED, delete_job=True)
        self.wake(node)

    # -- the worker --------------------------------------------------------------------

    async def _working(self) -> None:
        while not self._stopping:
            self._worker = Worker(
                self._app,
                queues=[jobs.ANY, self._me],
                concurrency=self._workers,
                fetch_job_polling_interval=0.25,  # a notification that comes while it fetches is lost
                abort_job_polling_interval=3600.0,
                shutdown_graceful_timeout=STOP_S,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=1.0,
                stalled_worker_timeout=60.0,
            )
            run = asyncio.create_task(self._worker.run(), name="ticks")
            try:
                await self._register(self._worker, run)
                await run
            except asyncio.CancelledError:
                self._worker.stop()
                raise
            except Exception as exc:
                log.warning("the queue's worker ended: %s; another begins", exc)
                run.cancel()
            if not self._stopping:
                await asyncio.sleep(0.5)

    def _ring(self) -> None:
        if self._worker is not None:
            self._worker._new_job_event.set()

    async def _register(self, worker: Worker, run: asyncio.Task[None]) -> None:
        """Whose worker it is, so that its ticks are taken over with the server's life."""
        while not run.done():
            number = worker.worker_id
            if number is None:
                await asyncio.sleep(0.02)  # it has no event for it
                continue
            try:
                await self._store.write(functools.partial(servers.change, instance=self._me, worker=number))
                return
            except StoreError as exc:
                log.warning("worker %d is not written down yet: %s", number, exc.brief)
                await asyncio.sleep(AWAY_PAUSE_S)

    async def _watching(self) -> None:
        """When the lease runs out, what is under way is cut off; what of it was stored is shown when it is back."""
        cut = False
        while not self._stopping:
            await asyncio.sleep(WATCH_S)
            if cut and self._lease.held():
                cut = not self._resume()
            if self._running and not self._lease.held():
                cut = True
                log.warning("%d ticks are cut off: this server may not act now", len(self._running))
                for task in list(self._running.values()):
                    task.cancel()
                self._driven.clear()

    def _resume(self) -> bool:
        """False: the database is away again, say."""
        try:
            self._resumed()
        except StoreError as exc:
            log.warning("what was stored is not shown yet: %s; again soon", exc.brief)
            return False
        except Exception:
            log.exception("what was stored is not shown")
        return True

    async def _taking_over(self) -> None:
        """Others whose life ended: their ticks begin again here or elsewhere."""
        while not self._stopping:
            await asyncio.sleep(1.0)
            try:
                if self._lease.steady_s() > TAKEOVER_S:
                    for dead, nodes in await self._store.fetch(functools.partial(takeover.end_silent, me=self._me)):
                        told: dict[str, Any] = {"server": dead.name, "instance": dead.id, "nodes": len(nodes)}
                        told |= {"by": self._lease.me.name, "because": f"{dead.name} was not heard: others go on"}
                        self._tell("server-ended", told, nodes)
                if self._lease.held():
                    await self.adopt()
            except Exception as exc:
                log.warning("looking after other servers failed: %s", exc)

    async def adopt(self) -> int:
        """Ticks that nobody runs or waits for any more are asked for anew; how many."""
        ask = self._app.connector.execute_query_all_async
        orphans = await ask(jobs.ORPHANS, stale_s=TAKEOVER_S)
        for row in orphans:
            await self._forget(row["id"], row["node"])
        freed = await ask(jobs.FREE)
        for row in freed:
            self.wake(row["node"])
        if freed:
            self._ring()
        return len(orphans) + len(freed)
