"""Runs one pass over one node: read, decide, do one thing, store, say when to look again.

The only place where a node's state changes. Everything a pass changed is
stored in one transaction under the node's fence; when somebody else wrote
meanwhile nothing is stored and the node is looked at afresh.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.bmc.faults import BmcError
from baremetal.errors import BaremetalError
from baremetal.lifecycle import Verb
from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.model.node import Node, State
from baremetal.store import BadValue, Fenced, StoreError, boots, events, nodes
from baremetal.workflows import cleaning as cleaning  # these register their steps
from baremetal.workflows import deployment, faults, idle, powerverbs, steps
from baremetal.workflows import enrollment as enrollment
from baremetal.workflows import inspection as inspection
from baremetal.workflows import otherverbs as otherverbs
from baremetal.workflows import raid as raid
from baremetal.workflows import rescue as rescue
from baremetal.workflows import service as service
from baremetal.workflows.bmcladder import bmc_trouble, bmc_well
from baremetal.workflows.entering import begin_steps, enter
from baremetal.workflows.imagehere import RETRY_S, ImageElsewhere
from baremetal.workflows.looking import Seen, look
from baremetal.workflows.outcome import Again, Done, Failed, Outcome
from baremetal.workflows.passes import Pass, StoreFirst, World
from baremetal.workflows.places import Places
from baremetal.workflows.ramdisk import drop_order
from baremetal.workflows.settling import settle

log = logging.getLogger(__name__)

# A crashed pass (a bug) is tried that often before the workflow fails with the traceback as evidence.
CRASHES = 5
# Who finds a limit reached is woken when a place becomes free; this is for places freed by another server.
LIMIT_PAUSE_S = 30.0
# Decisions taken in one pass, at most; each is a step that needed nothing from the machine.
DECISIONS = 12


@dataclass(frozen=True)
class Ran:
    """What a pass left: the node as stored (None when it is gone), whether the boot plane must hear of it.

    `seen` is what the next pass may start from without reading it again; None
    when evidence came meanwhile, or somebody else wrote.
    """

    node: Node | None
    shows: bool
    seen: Seen | None = None


class Runner:
    """Passes over nodes of one world. `run` is what the engine calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._crashes: dict[str, int] = {}
        self._places = Places(world)

    def freed(self) -> list[str]:
        """Nodes that may begin now, because others left a state that is limited."""
        return self._places.next()

    async def run(self, node_id: str, seen: Seen | None = None) -> Ran:
        """One pass, from what is stored or from what the last pass left."""
        seen = seen or await self._look(node_id)
        if seen is None:
            return Ran(None, True)
        p = Pass(self.world, seen.node, seen.boots, seen.order)
        if seen.ports is not None:
            p.ports = seen.ports
        try:
            return await self._run(p)
        finally:
            self._places.settled(node_id)

    async def _look(self, node_id: str) -> Seen | None:
        """A database of several servers may be slow or away: the others' passes do not wait for that."""
        store = self.world.store
        if store.shared:
            return await store.fetch(lambda c: look(c, node_id))
        return store.read(lambda c: look(c, node_id))

    async def _run(self, p: Pass) -> Ran:
        node_id, crashed = p.before.id, False
        try:
            outcome = await self._decisions(p)
        except Fenced:
            return self._later(node_id)
        except StoreError:
            raise  # the database, not the node: the engine comes again when it is back
        except ImageElsewhere as exc:
            outcome = Again(RETRY_S, exc.brief, faults.from_error(exc, p.now) if exc.failed else None)
        except BmcError as exc:
            outcome = bmc_trouble(p, exc)
        except BaremetalError as exc:
            outcome = Failed(faults.from_error(exc, p.now))
        except Exception as exc:
            outcome, crashed = self._crashed(p, exc), True
        else:
            bmc_well(p)
        settle(p, outcome)
        try:
            saved = await self._store(p)
        except Fenced:
            return self._later(node_id)
        except Exception as exc:
            if isinstance(exc, StoreError) and not isinstance(exc, BadValue):
                raise
            return await self._unstorable(p, exc)
        if not crashed:
            self._crashes.pop(node_id, None)
        self._places.left(p.before, saved)
        mark = (saved.fence, saved.evidence)
        if saved is p.node:  # nothing was stored: did something come in meanwhile?
            mark = self.world.store.read(lambda c: nodes.mark(c, node_id)) or mark
        if mark == (saved.fence, p.before.evidence):
            return Ran(saved, _shows(p), Seen(saved, p.boots, p.order, p.ports_read))
        return Ran(self.world.store.read(lambda c: nodes.find(c, node_id)), True)

    async def _unstorable(self, p: Pass, exc: Exception) -> Ran:
        """What was decided cannot be stored (for what a machine said, say): a crash like any other, so that it ends."""
        seen = await self._look(p.before.id)
        if seen is None or seen.node.fence != p.before.fence:
            return self._later(p.before.id)
        again = Pass(self.world, seen.node, seen.boots, seen.order)
        settle(again, self._crashed(again, exc))
        try:
            return Ran(await self._store(again), True)
        except Fenced:
            return self._later(p.before.id)

    def _later(self, node_id: str) -> Ran:
        """Somebody else changed it: it is due again at once, by what is stored now."""
        node = self.world.store.read(lambda c: nodes.find(c, node_id))
        return Ran(node and dataclasses.replace(node, wake_at=self.world.now()), True)

    async def _store(self, p: Pass) -> Node:
        if p.node == p.before and not p.writes and not p.events:
            return p.node  # nothing to say: no write, no new fence

        def write(conn: Connection) -> Node:
            saved = nodes.save(conn, p.before, p.node, p.now)
            for more in p.writes:
                more(conn)
            events.add_all(conn, p.events)
            return saved

        return await self.world.store.write(write)

    def _crashed(self, p: Pass, exc: Exception) -> Outcome:
        count = self._crashes[p.node.id] = self._crashes.get(p.node.id, 0) + 1
        log.error("pass over %s crashed (%d of %d)", p.node.name, count, CRASHES, exc_info=exc)
        p.writes.clear()
        p.node = p.before
        if count >= CRASHES:
            self._crashes.pop(p.node.id)
            return Failed(faults.from_bug(exc, p.now))
        return Again(2.0**count, "the pass crashed, trying again", faults.from_bug(exc, p.now))

    async def _decisions(self, p: Pass) -> Outcome | None:
        """Decide, and go on deciding while nothing was asked of the machine: one commit for all of it."""
        outcome: Outcome | None = None
        for _ in range(DECISIONS):
            try:
                outcome = await self._decide(p)
            except StoreFirst:
                return Again(0.0, str(p.work.get("doing") or "next: the machine"))
            at_once = isinstance(outcome, Again) and outcome.after_s == 0 and outcome.fault is None
            if not at_once or not p.may_go_on or p.node.held:
                return outcome
            assert isinstance(outcome, Again)
            p.jot(topic=None, doing=outcome.because)
            p.change(wait=None)
        return outcome

    async def _decide(self, p: Pass) -> Outcome | None:
        """What to do for this node now. None: nothing."""
        node = p.node
        if "ask" in node.work and node.work.get("abort"):
            self._places.gave_up(node.id)
            p.change(work={}, wanted=None, wanted_args={}, wanted_by=None)  # it stays as it was, with the fault it had
            return None
        if "ask" in node.work:
            return await self._begin(p)
        if node.state in lifecycle.STABLE or node.wanted is None:
            return await self._at_rest(p)
        if node.work.get("abort"):
            drop_order(p)
            by = node.work["abort"].get("by", "somebody")
            return Failed(
                Fault(
                    "aborted",
                    f"{node.name}: {node.wanted} was aborted by {by}",
                    detail=f"at step {node.step}",
                    fix="nothing is wrong with it: ask again when it suits",
                    since=p.now,
                )
            )
        if node.held:
            return None
        return await self._step(p)

    async def _begin(self, p: Pass) -> Outcome | None:
        """A verb was accepted: enter its state, with its steps in the notebook."""
        node = p.node
        verb, to = Verb(node.work["ask"]), State(node.work["to"])
        if to in lifecycle.STABLE:
            p.change(work={}, wanted=None, wanted_args={}, fault=None, step=None, held=None)
            enter(p, to)
            return None
        if to is State.DEPLOYING:
            deployment.image_first(p)
        full = self._places.take(node.id, to)
        if full:
            return Again(LIMIT_PAUSE_S, full)
        drop_order(p)
        if p.ramdisk and p.ramdisk.hello_at is None:  # of a verb that was given up: its patience is not ours
            p.end_boot(boots.RAMDISK)
        p.change(work={}, held=None, fault=None, step=None)
        try:
            if to is State.DEPLOYING:
                deployment.check_image(p)
            begin_steps(p, to, verb)
        except BaremetalError as exc:
            enter(p, to)
            return Failed(faults.from_error(exc, p.now))
        enter(p, to)
        return Again(0.0, f"{verb} begins")

    async def _at_rest(self, p: Pass) -> Outcome | None:
        """No workflow: power wishes, and an idle ramdisk that is switched off in time."""
        if lifecycle.is_damaged(p.node):
            return None
        if p.node.power_wanted:
            outcome = await powerverbs.carry_out(p)
            if isinstance(outcome, Done):
                p.change(power_wanted=None)
                p.jot(here=None)
                if faults.passes(p.node):
                    p.change(fault=None)
                return None
            return outcome
        if p.ramdisk and p.node.state is not State.RESCUE and p.node.wanted is None:
            return await idle.ramdisk(p)
        return None

    async def _step(self, p: Pass) -> Outcome:
        """One pass of the current step; done steps hand over to the next."""
        todo, at = steps.load(p.work["steps"]), int(p.work["i"])
        if at >= len(todo):
            return Done("all steps are done")
        current = todo[at]
        known = steps.find(current.name)
        if known is None:
            return Failed(
                Fault(
                    "step-unknown",
                    f"{p.node.name}: this server does not know step {current.name!r}",
                    fix="it was begun by another version: ask the verb again",
                    since=p.now,
                )
            )
        if p.node.step != current.name:
            p.change(step=current.name)
            p.jot(step_since=p.now)
            p.event(Kind.STEP, current.name, outcome="begin")
        outcome = await known.handler(p)
        if not isinstance(outcome, Done):
            return outcome
        spent = int((p.now - p.work.get("step_since", p.now)) * 1000)
        p.event(Kind.STEP, current.name, duration_ms=spent, data={"because": outcome.because})
        hold = p.work.get("hold_asked")
        p.jot(i=at + 1, here=None, hold_asked=None)
        p.change(fault=None)
        if at + 1 >= len(todo):
            return Done(outcome.because)
        if hold:
            p.change(held=f"asked by {hold}")
        return Again(0.0, outcome.because)


def _shows(p: Pass) -> bool:
    """Did anything change that the boot plane is told?"""
    was, now = p.before, p.node
    return bool(p.writes) or (was.state, was.step, was.wanted, was.boot_id) != (
        now.state,
        now.step,
        now.wanted,
        now.boot_id,
    )
