"""Staged changes of metadata: canaries first, then batches, each group healthy before the next gets it.

The server drives it, not the command that asked: who presses Ctrl-C leaves no
half-driven roll-out. Nodes that have not got the change keep, and at a redeploy
get, the values before. The first failure stops it; the operator resumes or aborts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection

from baremetal.errors import NotFound, Refused, UsageError
from baremetal.model.event import Event, Kind
from baremetal.model.metadata import next_step
from baremetal.model.node import Node
from baremetal.store import StoreError, boots, events, metadata, nodes, rollouts, servers
from baremetal.store.rollouts import ABORTED, DONE, RUNNING, STOPPED, Rollout
from baremetal.store.seal import Sealer
from baremetal.workflows import ids
from baremetal.workflows.compose import Composer, Signer
from baremetal.workflows.metadata import Change, check, key_of, touched, write_layer
from baremetal.workflows.passes import World

log = logging.getLogger(__name__)

PATIENCE_S = 600.0  # a node that says nothing for so long has failed
LOOK_S = 5.0  # how often silence is looked for


@dataclasses.dataclass(frozen=True)
class Pace:
    """`canary` nodes first, then `batch` at a time."""

    canary: int
    batch: int
    patience_s: float = PATIENCE_S


def start(conn: Connection, sealer: Sealer, signer: Signer, change: Change, pace: Pace, now: float) -> Rollout:
    """Store the change and give it to the first nodes."""
    key = key_of(conn, change.layer, change.name)
    if under_way := rollouts.active(conn, sealer):
        raise UsageError(
            f"roll-out {under_way[0].id} is {under_way[0].state}",
            detail=under_way[0].because,
            fix="one at a time: baremetal metadata rollout resume, or abort",
        )
    before = metadata.get_layer(conn, sealer, change.layer, key)[0]
    write_layer(conn, sealer, change, key, now)
    composer = Composer(conn, sealer, signer, now)
    concerned = touched(conn, change.layer, key)
    check(conn, composer, concerned, change.layer, key)
    live = boots.all_live(conn)
    order = [n.id for n in concerned if boots.INSTANCE in live.get(n.id, {}) and composer.differs(n)]
    new = Rollout(
        0,
        change.layer,
        key,
        RUNNING,
        before,
        min(pace.canary, len(order)),
        pace.batch,
        pace.patience_s,
        order,
        by=change.by,
        started_at=now,
        updated_at=now,
    )
    number = rollouts.start(conn, sealer, new)
    _note(conn, number, "started", f"{len(order)} nodes, {new.canary} first, then {new.batch} at a time", now)
    return advance(conn, sealer, signer, dataclasses.replace(new, id=number), now)[0]


def advance(
    conn: Connection, sealer: Sealer, signer: Signer, rollout: Rollout, now: float
) -> tuple[Rollout, list[str]]:
    """One look: hand the change on, wait, stop or end. (the roll-out now, ids of nodes with a new document)"""
    if rollout.state != RUNNING:
        return rollout, []
    known = {node.id: node for node in nodes.many(conn, rollout.nodes)}
    order = [node_id for node_id in rollout.nodes if node_id in known]  # deleted ones are nobody's worry
    outcomes = {i: _outcome(known[i], rollout, now) for i in order if i in rollout.given}
    step = next_step(order, outcomes, canary=rollout.canary, batch=rollout.batch)
    if step.stopped:
        node = known[step.stopped]
        return _end(
            conn, rollout, STOPPED, f"{node.name} {_failure(node, rollout)}: the others keep what they have", now
        )
    if step.done:
        ended, _ = _end(conn, rollout, DONE, f"all {len(order)} nodes have it", now)
        rest = touched(conn, rollout.layer, rollout.name)
        changed = Composer(conn, sealer, signer, now).refresh(rest, lenient=True)
        return ended, [node.id for node, _ in changed]
    if not step.give:
        return rollout, []
    return _give(conn, sealer, signer, rollout, [known[i] for i in step.give], now)


def resume(conn: Connection, rollout: Rollout, now: float) -> Rollout:
    """Go on: what failed counts again from its next report on."""
    if rollout.state != STOPPED:
        raise Refused(
            f"roll-out {rollout.id} is {rollout.state}: only a stopped one is resumed",
            fix="baremetal metadata rollout show",
        )
    given = {node: [generation, now] for node, (generation, _) in rollout.given.items()}
    return _save(conn, rollout, now, state=RUNNING, given=given, because="resumed")


def abort(
    conn: Connection, sealer: Sealer, signer: Signer, rollout: Rollout, by: str, now: float
) -> tuple[Rollout, list[str]]:
    """Take it back: the layer is as it was, nodes that had the change get the old values as a new generation."""
    if rollout.state not in (RUNNING, STOPPED):
        raise UsageError(f"roll-out {rollout.id} is {rollout.state}: there is nothing to abort")
    ended, _ = _end(conn, rollout, ABORTED, f"taken back by {by}", now)
    metadata.put_layer(
        conn, sealer, rollout.layer, rollout.name, rollout.before, now, by, f"roll-out {rollout.id} aborted"
    )
    changed = Composer(conn, sealer, signer, now).refresh(touched(conn, rollout.layer, rollout.name), lenient=True)
    return ended, [node.id for node, _ in changed]


def describe(conn: Connection, rollout: Rollout, now: float) -> dict[str, Any]:
    """For people and programs: how far it is, by node."""
    known = {node.id: node for node in nodes.many(conn, rollout.nodes)}
    rows = [
        {
            "node": known[i].name,
            "outcome": (_outcome(known[i], rollout, now) or "applying") if i in rollout.given else "waiting",
            "generation": int(rollout.given[i][0]) if i in rollout.given else None,
        }
        for i in rollout.nodes
        if i in known
    ]
    place = known[rollout.name].name if rollout.layer == "node" and rollout.name in known else rollout.name
    doc = {k: getattr(rollout, k) for k in ("id", "layer", "state", "canary", "batch", "because", "by", "started_at")}
    good = sum(row["outcome"] == "applied" for row in rows)
    return {**doc, "name": place, "nodes": rows, "summary": f"{good} of {len(rows)} applied; {rollout.because}"}


def find(conn: Connection, sealer: Sealer, number: int | None) -> Rollout:
    """By number, or the last one; NotFound when there is none."""
    found = rollouts.get(conn, sealer, number)
    if found is None:
        raise NotFound("there is no such roll-out", fix="baremetal metadata set … --canary 2 --batch 10%")
    return found


def _give(
    conn: Connection, sealer: Sealer, signer: Signer, rollout: Rollout, to: list[Node], now: float
) -> tuple[Rollout, list[str]]:
    marked = {**rollout.given, **{node.id: [0, now] for node in to}}
    rollouts.change(conn, rollout.id, given=marked)  # the composer looks there
    changed = Composer(conn, sealer, signer, now).refresh(to)
    generations = {node.id: generation for node, generation in changed}
    have = metadata.generations(conn)
    given = {**rollout.given, **{n.id: [generations.get(n.id, have[n.id][0]), now] for n in to}}
    because = f"waiting for {', '.join(n.name for n in to[:5])}{' …' if to[5:] else ''}"
    return _save(conn, rollout, now, given=given, because=because), list(generations)


def _outcome(node: Node, rollout: Rollout, now: float) -> str:
    """ "" while it may still come, applied, failed."""
    generation, since = rollout.given[node.id]
    config = node.config
    if (config.get("generation") or 0) >= generation and (config.get("at") or 0) >= since - 1:
        if config.get("outcome") in ("applied", "unchanged", "drift"):
            return "applied"
        if config.get("outcome") == "failed":
            return "failed"
    return "failed" if now - since > rollout.patience_s else ""


def _failure(node: Node, rollout: Rollout) -> str:
    if node.config.get("outcome") == "failed":
        return f"failed ({(node.config.get('fault') or {}).get('brief', 'no reason given')})"
    return f"said nothing for {rollout.patience_s:.0f} s"


def _end(conn: Connection, rollout: Rollout, state: str, because: str, now: float) -> tuple[Rollout, list[str]]:
    _note(conn, rollout.id, state, because, now)
    return _save(conn, rollout, now, state=state, because=because), []


def _save(conn: Connection, rollout: Rollout, now: float, **columns: Any) -> Rollout:
    rollouts.change(conn, rollout.id, updated_at=now, **columns)
    return dataclasses.replace(rollout, updated_at=now, **columns)


def _note(conn: Connection, number: int, what: str, because: str, now: float) -> None:
    data = {"rollout": number, "because": because}
    outcome = "failed" if what == STOPPED else "ok"
    stage = f"roll-out {what}"
    events.add_all(conn, [Event(ids.ulid(now), now, None, Kind.METADATA, stage, "control", outcome=outcome, data=data)])


class Driver:
    """Looks after each report and now and then; at most one look at a time."""

    def __init__(self, world: World, signer: Signer, published: Callable[[list[str]], None]) -> None:
        self._world, self._signer, self._published = world, signer, published
        self._due = asyncio.Event()
        self.under_way = True  # until a look says otherwise

    def look(self) -> None:
        """Something was reported, or asked."""
        if self.under_way:
            self._due.set()

    def began(self) -> None:
        """A roll-out was started or resumed."""
        self.under_way = True
        self._due.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S if self.under_way else None):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            try:
                changed = await self._world.store.write(self._advance)
                self._published(changed)
            except StoreError as exc:
                log.warning("roll-outs wait: %s", exc.brief)
            except Exception:
                log.exception("a roll-out could not be looked after; again in %.0f s", LOOK_S)
                await asyncio.sleep(LOOK_S)

    def _advance(self, conn: Connection) -> list[str]:
        servers.alone(conn, "rollouts")
        sealer, now = self._world.metadata, self._world.now()
        running = [r for r in rollouts.active(conn, sealer) if r.state == RUNNING]
        self.under_way = bool(running)
        changed: list[str] = []
        for rollout in running:
            changed += advance(conn, sealer, self._signer, rollout, now)[1]
        return changed
