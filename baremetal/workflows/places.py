"""Places under the limits per verb: so many deploys, cleans and inspections at once, the others wait in line."""

from __future__ import annotations

from baremetal.model.node import Node, State
from baremetal.store import nodes
from baremetal.workflows.passes import World


class Places:
    """Who wants a place asks `take`; who does not get one is named by `next` when one becomes free."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lines: dict[State, dict[str, None]] = {}  # node ids in the order in which they asked
        self._taken: dict[str, State] = {}  # places of passes that are not stored yet
        self._freed: dict[State, int] = {}

    def limit(self, state: State) -> int | None:
        """How many nodes may be in this state at once."""
        policy = self._world.policy
        limits = {
            State.DEPLOYING: policy.deploy_limit,
            State.CLEANING: policy.clean_limit,
            State.INSPECTING: policy.inspect_limit,
        }
        return limits.get(state)

    def take(self, node_id: str, to: State) -> str | None:
        """None: go on; else why it must wait."""
        limit = self.limit(to)
        if limit is None:
            return None
        busy = self._world.store.read(lambda c: nodes.in_flight(c, str(to)))
        others = sum(state is to and holder != node_id for holder, state in self._taken.items())
        line = self._lines.setdefault(to, {})
        if busy + others >= limit:
            line[node_id] = None
            return f"{busy} nodes are {to}, the limit is {limit}; {list(line).index(node_id)} wait before it"
        line.pop(node_id, None)
        self._taken[node_id] = to
        return None

    def gave_up(self, node_id: str) -> None:
        """Its wish was taken back: it stands in no line any more."""
        for line in self._lines.values():
            line.pop(node_id, None)

    def settled(self, node_id: str) -> None:
        """The pass is over: if it took a place, the store counts it now."""
        self._taken.pop(node_id, None)

    def left(self, before: Node, after: Node) -> None:
        """Did this node leave a state that others wait for?"""
        was_in = before.wanted is not None and before.state in self._lines and "ask" not in before.work
        if was_in and (after.state is not before.state or after.wanted is None):
            self._freed[before.state] = self._freed.get(before.state, 0) + 1

    def next(self) -> list[str]:
        """The first in line, one for each place that became free."""
        found: list[str] = []
        for state, count in self._freed.items():
            line = self._lines[state]
            for node_id in list(line)[:count]:
                del line[node_id]
                found.append(node_id)
        self._freed.clear()
        return found
