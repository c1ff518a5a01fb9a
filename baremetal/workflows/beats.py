"""Beats of agents, gathered: thousands of them cost one transaction."""

from __future__ import annotations

from baremetal.protocol.agent import INSTANCE
from baremetal.protocol.plane import Message


class Beats:
    """The newest beat of each agent, until it is stored."""

    def __init__(self) -> None:
        self._ramdisks: dict[str, float] = {}  # boot id -> Unix seconds
        self._instances: dict[str, float] = {}  # node id -> Unix seconds

    def add(self, m: Message) -> bool:
        """True when the message is a beat; it is kept here then."""
        if m.kind != "beat":
            return False
        if m.body.get("agent") == INSTANCE:
            if m.node:
                self.instance(m.node, m.time)
        elif boot_id := m.body.get("boot_id"):
            self.ramdisk(str(boot_id), m.time)
        return True

    def ramdisk(self, boot_id: str, at: float) -> None:
        """The ramdisk of this boot was heard."""
        self._ramdisks[boot_id] = max(at, self._ramdisks.get(boot_id, 0.0))

    def instance(self, node_id: str, at: float) -> None:
        """The deployed system of this node was heard."""
        self._instances[node_id] = max(at, self._instances.get(node_id, 0.0))

    def heard(self, boot_id: str, node_id: str) -> bool:
        """A beat that is not stored yet?"""
        return boot_id in self._ramdisks or node_id in self._instances

    def take(self) -> tuple[dict[str, float], dict[str, float]] | None:
        """All of them, by boot and by node; None when there is none."""
        if not self._ramdisks and not self._instances:
            return None
        found = (self._ramdisks, self._instances)
        self._ramdisks, self._instances = {}, {}
        return found
