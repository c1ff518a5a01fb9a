"""May this boot plane answer now? With several servers, only while its control says so.

A single server's boot plane answers from its last snapshot for as long as it likes:
nobody else changes anything. When servers share a database, another one may have gone on,
so what is known here is only good for as long as control holds its lease. Times
are counted by CLOCK_BOOTTIME, which goes on while a process is stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


class Standing:
    """What control's `lease` frames said last. `shared`: there may be other servers."""

    def __init__(self, shared: bool = False) -> None:
        self.shared = shared
        self.pools: frozenset[str] = frozenset()
        self.agents: tuple[str, ...] = ()  # https URLs of all servers of the site
        self._until = 0.0
        self._offset = 0.0
        self._leases: list[tuple[str, str, float]] = []

    def told(self, frame: Mapping[str, Any]) -> None:
        """A `lease` frame: good for `for_s` seconds from now."""
        self.shared = True
        self._until = _now() + float(frame["for_s"])
        self._offset = float(frame["now"]) - time.time()
        self.pools = frozenset(str(name) for name in frame.get("pools", ()))
        self.agents = tuple(str(url) for url in frame.get("agents", ()))
        self._leases += [(mac, ip, ends - self._offset) for mac, ip, ends in frame.get("leases", ())]

    def take_leases(self) -> list[tuple[str, str, float]]:
        """Leases of ranges that became ours (MAC, address, end by our clock); told once."""
        taken, self._leases = self._leases, []
        return taken

    def shared_time(self, ours: float) -> float:
        """A time by this machine's clock as the database's clock has it."""
        return ours + self._offset

    def good(self) -> bool:
        """Is what we know still what the database says?"""
        return not self.shared or _now() < self._until

    def gives(self, network: str) -> bool:
        """Does this server give out the dynamic addresses of this network?"""
        return not self.shared or (self.good() and network in self.pools)

    def time(self) -> float:
        """Unix seconds of the database: the same on all servers, whatever their clocks say."""
        return time.time() + self._offset

    def agents_from(self, own: str) -> str:
        """Where agents may turn to, this server first: one URL, or several with commas."""
        return ",".join(dict.fromkeys([own, *self.agents]))

    def peers(self) -> frozenset[str]:
        """The addresses of all servers of the site."""
        return frozenset(urlsplit(url).hostname or "" for url in self.agents)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
