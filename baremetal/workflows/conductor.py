"""The control plane's heart: owns engine, passes, inbox and publisher, and offers what the API needs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import Connection

from baremetal.bmc.base import ConsoleStream
from baremetal.bmc.consolehub import ConsoleHub
from baremetal.bmc.url import BmcUrl
from baremetal.engine import Clock, EmbeddedEngine
from baremetal.engine.port import Engine
from baremetal.errors import NotFound
from baremetal.protocol.plane import Snapshot
from baremetal.secrets import Secret
from baremetal.store import Store, StoreError, boots, events, nodes, records, waits
from baremetal.store.seal import Sealer
from baremetal.workflows import ids
from baremetal.workflows.bell import Bell
from baremetal.workflows.bmchealth import BmcHealth
from baremetal.workflows.inbox import Inbox
from baremetal.workflows.looking import Seen
from baremetal.workflows.metadata import Signer, refresh_referring
from baremetal.workflows.netbook import NetBook
from baremetal.workflows.passes import Drivers, World
from baremetal.workflows.policy import Policy
from baremetal.workflows.powersync import PowerSync
from baremetal.workflows.pruning import prune
from baremetal.workflows.recorder import Open, Recorder
from baremetal.workflows.rollout import Driver
from baremetal.workflows.runner import Runner
from baremetal.workflows.serverevent import server_event
from baremetal.workflows.site import Images, Keys, Site
from baremetal.workflows.snapshot import Publisher, Push

if TYPE_CHECKING:  # needs the packages of the extra `postgresql`
    from baremetal.engine.cluster import Cluster

log = logging.getLogger(__name__)
T = TypeVar("T")

OUTAGE = "database-away"  # an event of that name; the newest of each server is kept as a record too

# The writer thread and this loop share the interpreter; Python's default of 5 ms would be our latency.
SWITCH_S = 0.0005
HOUSEKEEPING_S = 2.0
PRUNE_S = 3600.0
# Passes over one node without a look at the others; more than any workflow has between two waits.
CHAIN = 16


async def _console(url: str, password: Secret) -> ConsoleStream:
    """Serial over LAN; the module is imported by who needs it."""
    from baremetal.bmc.console import open_console

    return await open_console(BmcUrl.parse(url), password)


def _untold(stage: str, written: Future[None]) -> None:
    if not written.cancelled() and (exc := written.exception()):
        log.warning("event %s could not be stored: %s", stage, exc)


class NoImages:
    """An image store with nothing in it."""

    def get(self, name_or_id: str) -> Any:
        """NotFound, always."""
        raise NotFound(f"no image {name_or_id!r}", fix="baremetal image list")

    def list(self) -> list[Any]:
        """Nothing."""
        return []


class Conductor:
    """Start it on an event loop; everything it does is on that loop and the store's writer thread."""

    def __init__(
        self,
        *,
        store: Store,
        keys: Keys,
        bmc: Drivers,
        site: Site | None = None,
        images: Images | None = None,
        policy: Policy | None = None,
        state_dir: Path | None = None,
        clock: Clock | None = None,
        open_console: Open | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.cluster = cluster
        self.clock = clock or (cluster.clock if cluster else Clock())
        self.state_dir = state_dir
        self.started_at = 0.0
        self.signer = Signer(keys.signing_pem)
        self.world = World(
            store=store,
            operator=Sealer(keys.operator),
            metadata=Sealer(keys.metadata),
            signing_pem=keys.signing_pem,
            site=site or Site(),
            policy=policy or Policy(),
            drivers=bmc,
            images=images or NoImages(),
            now=self.clock.now,
        )
        self.bell = Bell()
        self.publisher = Publisher(self.world)
        self.inbox = Inbox(self.world, self._woken, self._moved)
        self.planes: dict[str, Any] = {}  # what api/planelink.py says of its connections
        self._runner = Runner(self.world)
        self.engine = self._make_engine()
        self._sync = PowerSync(self.world, self._touched)
        self.health = BmcHealth(self.world)
        self.consoles = ConsoleHub(open_console or _console)
        self.rollouts = Driver(self.world, self.signer, self.publish)
        self._recorder: Recorder | None = None
        if state_dir is not None and self.world.policy.record_consoles:
            self._recorder = Recorder(self.world, state_dir / "console", self.consoles.open, self._over)
        self._tasks: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None
        self._outdated = False  # documents may speak of an address that a node no longer has
        self._site_changed: list[Callable[[], None]] = []
        self._unshown: set[str] = set()  # a pass over these may have stored something that no boot plane was told
        self.netbook: NetBook | None = None  # set by the control process: networks can be added here
        self.release_address: Callable[[str], None] | None = None  # tells the boot planes to take an address back

    def _make_engine(self) -> Engine:
        """For one server: a queue in this process; for several: one in the database."""
        workers = self.world.policy.workers
        if self.cluster is None:
            return EmbeddedEngine(self._pass, self._due, self.clock, workers=workers)
        self.world.may, self.world.share = self.cluster.lease.check, self.cluster.share
        return self.cluster.engine(
            self._pass, self._due, self.clock, workers=workers, tell=self._tell, resumed=self._missed
        )

    # -- life --------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what the last server left, at whatever point it was killed."""
        sys.setswitchinterval(SWITCH_S)
        now = self.started_at = self.clock.now()

        def write(conn: Connection) -> int:
            events.add_all(conn, [server_event(now, "start", **self._named())])
            return waits.extend(conn, now + waits.GRACE_S, self.cluster.me.id if self.cluster else "")

        await self.store.write(write)
        if self.cluster:
            await self.cluster.listen(self._heard, self._missed)
        await self.engine.start()
        jobs = {
            "power-sync": self._sync.run(),
            "bmc-health": self.health.run(),
            "housekeeping": self._housekeeping(),
            "rollouts": self.rollouts.run(),
        }
        self._tasks = [asyncio.create_task(job, name=name) for name, job in jobs.items()]

    async def stop(self) -> None:
        """Let running passes end. The store is the caller's to close."""
        tasks = [*self._tasks, *([self._following] if self._following else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.engine.stop()
        with contextlib.suppress(Exception):
            await self.inbox.flush_beats()
        if self.cluster:
            await self.cluster.deaf()
        if self._recorder:
            await self._recorder.stop()
        await self.consoles.close()
        with contextlib.suppress(Exception):
            now = self.clock.now()
            await self.store.write(lambda c: events.add_all(c, [server_event(now, "stop", **self._named())]))
        self.bell.ring()

    @property
    def store(self) -> Store:
        """The database."""
        return self.world.store

    @property
    def images(self) -> Images:
        """The image store."""
        return self.world.images

    # -- the boot plane's side -----------------------------------------------------

    @property
    def version(self) -> int:
        """Grows with every push."""
        return self.publisher.version

    def snapshot(self) -> Snapshot:
        """Everything the boot plane may know, now."""
        return self.publisher.whole()

    def on_push(self, push: Push) -> None:
        """`push(views, gone)` is called on this loop whenever views changed; it must be quick and not wait."""
        self.publisher.on_push(push)

    def on_site_change(self, call: Callable[[], None]) -> None:
        """Called when networks, artifacts or images changed: push a whole snapshot."""
        self._site_changed.append(call)

    def set_site(self, site: Site) -> None:
        """Other networks, ramdisks or artifacts."""
        self.world.site = site
        self.images_changed()

    def images_changed(self) -> None:
        """An image was added or deleted."""
        self.publisher.version += 1
        for call in self._site_changed:
            call()

    # -- for the API -----------------------------------------------------------------

    async def write(self, write: Callable[[Connection], T], *, touches: Iterable[str] = ()) -> T:
        """Store something, then look at the nodes it touches and tell the boot plane."""
        result = await self.store.write(write)
        for node_id in touches:
            self.touched(node_id)
        self.bell.ring()
        return result

    def touched(self, node_id: str) -> None:
        """This node was changed by an operator."""
        self.world.forget(node_id)
        self.publisher.refresh([node_id])
        self.engine.wake(node_id)
        self.bell.ring()

    def publish(self, node_ids: Iterable[str]) -> None:
        """These nodes have another document: tell the boot plane, and who watches."""
        self.publisher.refresh(node_ids)
        self.bell.ring()

    def shown(self, node_id: str) -> None:
        """Something of this node was changed that no pass needs to hear of, only who looks at it."""
        self.publisher.refresh([node_id])
        self.bell.ring()

    async def references_changed(self) -> None:
        """A node's name, labels or address changed: documents that speak of nodes follow."""
        now, world = self.clock.now(), self.world
        changed = await self.store.write(lambda c: refresh_referring(c, world.metadata, self.signer, now))
        self.publisher.refresh(changed)

    async def wait_for_change(self, timeout_s: float, since: int | None = None) -> bool:
        """True as soon as anything was stored; `since`: bell.count before looking, so that nothing is missed."""
        return await self.bell.wait(timeout_s, since)

    # -- inside -------------------------------------------------------------------------

    async def _pass(self, node_id: str) -> float | None:
        """Passes over one node until it waits for something, at most CHAIN of them.

        One that is cut off after it stored something has not shown it: the next one does.
        """
        if node_id in self._unshown:
            self.publisher.refresh([node_id])
        self._unshown.add(node_id)
        seen: Seen | None = None
        for _ in range(CHAIN):
            ran = await self._runner.run(node_id, seen)
            node, seen = ran.node, ran.seen
            if ran.shows and seen:
                self.publisher.show(seen.node, seen.boots, seen.order, seen.ports)
            elif ran.shows:
                self.publisher.refresh([node_id])
            if node and self._recorder:
                self._recorder.watch(node)
            self.bell.ring()
            if node is None or node.wake_at is None or node.wake_at > self.clock.now():
                break
        self._unshown.discard(node_id)
        self._next_in_line()
        return node.wake_at if node else None

    def _next_in_line(self) -> None:
        for node_id in self._runner.freed():
            self.engine.wake(node_id)

    def leads(self) -> bool:
        """Does this server do what one is enough for?"""
        return self.cluster is None or self.cluster.leads()

    def _heard(self, changed: set[str], secrets: set[str]) -> None:
        """Another server stored something."""
        for owner in secrets:
            self.world.forget(owner)
        self.publisher.heard(changed)
        self.bell.ring()

    def _missed(self) -> None:
        """We could not hear for a while."""
        self.world.forget_all()
        self.publisher.resync()
        self.bell.ring()

    def _named(self) -> dict[str, str]:
        """Which of several servers this is."""
        return {"server": self.cluster.me.name} if self.cluster else {}

    def _tell(self, stage: str, data: dict[str, Any], node_ids: Sequence[str] = ()) -> None:
        """A fact about servers or database: another one ended, say, and what it drove is ours to look after.

        It stands among the site's events, and in the timeline of every node it happened to.
        """
        self.rollouts.began()
        told = server_event(self.clock.now(), stage, **data)
        of_nodes = [dataclasses.replace(told, id=ids.ulid(told.time), node_id=node) for node in node_ids]

        def write(conn: Connection) -> None:
            events.add_all(conn, [told, *of_nodes])
            if stage == OUTAGE:
                records.put(conn, OUTAGE, str(data["server"]), data, told.time)
                waits.extend(conn, told.time + waits.GRACE_S, str(data["instance"]))

        self.store.submit(write).add_done_callback(functools.partial(_untold, stage))
        self.bell.ring()

    async def _due(self, horizon: float) -> list[tuple[str, float]]:
        return await self.store.fetch(lambda c: nodes.due(c, horizon))

    def _woken(self, due: set[str], changed: set[str]) -> None:
        self.publisher.refresh(changed)
        self.rollouts.look()
        for node_id in due:
            self.engine.wake(node_id, urgent=True)
        self.bell.ring()

    def _over(self, node_id: str) -> None:
        """Its console says that this boot has ended: nobody waits for it any longer."""
        self.engine.wake(node_id, urgent=True)

    def _moved(self) -> None:
        """A node has another address: documents that speak of it follow, soon."""
        self._outdated = True
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow_moves(), name="references")

    async def _follow_moves(self) -> None:
        while self._outdated:
            self._outdated = False
            try:
                await self.references_changed()
            except StoreError as exc:
                log.warning("documents follow an address later: %s", exc.brief)
                self._outdated = True
                await asyncio.sleep(HOUSEKEEPING_S)

    def _touched(self, node_id: str) -> None:
        self.publisher.refresh([node_id])
        self.engine.wake(node_id)
        self.bell.ring()

    async def _housekeeping(self) -> None:
        """Follow a jump of the system clock; forget old events."""
        pruned = 0.0
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            try:
                await self.inbox.flush_beats()
                if self.clock.jumped():
                    await self._follow_clock()
                if time.monotonic() - pruned > PRUNE_S and self.leads():
                    pruned = time.monotonic()
                    days, now = self.world.policy.events_keep_days, self.clock.now()
                    await self.store.write(functools.partial(prune, keep_days=days, now=now))
            except StoreError as exc:
                log.warning("housekeeping waits: %s", exc.brief)
            except Exception:
                log.exception("housekeeping failed; again in %.0f s", HOUSEKEEPING_S)

    async def _follow_clock(self) -> None:
        """Somebody set the clock: deadlines move with it, nothing passes or hangs for that reason."""
        delta = self.clock.drift_s()
        if not self.leads():  # the leader moves the deadlines of all
            self.clock.rebase()
            return
        log.warning("the system clock jumped by %.0f s; deadlines move with it", delta)

        def write(conn: Connection) -> None:
            nodes.shift_times(conn, delta)
            boots.shift_times(conn, delta)
            events.add_all(conn, [server_event(self.clock.now(), "clock-jump", delta_s=round(delta))])

        await self.store.write(write)
        self.clock.rebase()
