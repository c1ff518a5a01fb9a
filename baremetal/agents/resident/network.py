"""Puts a host network in place, and takes it back unless the server can be reached with it.

The files go through a transaction as all others do; then systemd-networkd
starts anew. It leaves addresses that an earlier run of it set, and devices that
are no longer wanted: those are taken away while it is down, or a wrong network
would seem to work through the old addresses (seen with systemd 252). A machine
that nobody can reach any more cannot report, so the judge is a connection to
our own server.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional

from baremetal.agents.apply import files, lock
from baremetal.agents.apply.control import Control
from baremetal.agents.apply.files import Change
from baremetal.agents.apply.render import Planned
from baremetal.agents.apply.transaction import Transaction
from baremetal.agents.http import Url
from baremetal.agents.resident import hostnet, networkd
from baremetal.errors import BaremetalError

DIRECTORY = "etc/systemd/network"
REACH_S = 60.0
SETTLE_S = 15.0  # for the addresses to appear, before anybody asks whether the server is in reach
CONNECT_S = 3.0
Reload = Callable[[Callable[[], None]], None]


class NetworkReverted(BaremetalError):
    """With the new network the server was out of reach; the old one is back."""

    code = "network-reverted"


class Network:
    """The networkd files of one root directory."""

    def __init__(
        self,
        root: str,
        state: str,
        urls: List[str],
        *,
        reload: Optional[Reload] = None,
        reach_s: float = REACH_S,
    ) -> None:
        self.directory = os.path.join(root, DIRECTORY)
        self.state = state
        self.urls = urls
        self.reload = reload or restart_networkd
        self.reach_s = reach_s

    def bring(self, data: Dict[str, Any]) -> bool:
        """Make the host network so; was anything changed? NetworkReverted when it had to be taken back."""
        changes = self.changes({} if networkd.plain(data) else networkd.render(data))
        if not changes:
            return False
        with lock.held(self.state):
            before = self._texts()
            transaction = Transaction(changes, self.state, "network")
            transaction.stage()
            transaction.commit()
            after = self._texts()
            self.reload(lambda: hostnet.clear(before, after))
            self._settle(after)
            if self.reachable():
                transaction.finish()
                return True
            transaction.undo()
            self.reload(lambda: hostnet.clear(after, before))
            self._settle(before)
        raise NetworkReverted(
            f"the server cannot be reached with the new network within {self.reach_s:g} s; the old one is back",
            detail=", ".join(c.path for c in changes),
            fix="correct network_data: links by MAC, VLAN ids, addresses, gateway",
        )

    def changes(self, texts: Dict[str, str]) -> List[Change]:
        """Files of ours that differ, and those no longer wanted."""
        found = []
        for name, text in sorted(texts.items()):
            path = os.path.join(self.directory, name)
            change = files.compare(Planned(path, text.encode(), Control(mode=0o644), "network_data"))
            if change is not None:
                found.append(change)
        for name in self._ours():
            if name not in texts:
                path = os.path.join(self.directory, name)
                found.append(Change(path, "removed", b"", 0, None, None, None))
        return found

    def reachable(self) -> bool:
        """Does any address of the server accept a connection within the time?"""
        deadline = time.monotonic() + self.reach_s
        while True:
            for url in self.urls:
                target = Url.parse(url)
                try:
                    socket.create_connection((target.host, target.port), timeout=CONNECT_S).close()
                    return True
                except OSError:
                    pass
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)

    def _settle(self, texts: Dict[str, str]) -> None:
        """Until every fixed address is there, but not for ever: a port may have no cable."""
        deadline = time.monotonic() + min(SETTLE_S, self.reach_s / 4)
        while not hostnet.configured(texts) and time.monotonic() < deadline:
            time.sleep(0.2)

    def _texts(self) -> Dict[str, str]:
        found = {}
        for name in self._ours():
            with open(os.path.join(self.directory, name), encoding="utf-8", errors="replace") as f:
                found[name] = f.read()
        return found

    def _ours(self) -> List[str]:
        try:
            return sorted(n for n in os.listdir(self.directory) if n.startswith(networkd.PREFIX))
        except FileNotFoundError:
            return []


def restart_networkd(between: Callable[[], None]) -> None:
    """Virtual devices are made by a fresh start only. `between` runs while it is down."""
    unit = "systemd-networkd.service"
    # Its socket would start it again at the first packet of the kernel.
    subprocess.run(["systemctl", "stop", "systemd-networkd.socket", unit], check=False, timeout=60)
    between()
    subprocess.run(["systemctl", "start", "systemd-networkd.socket", unit], check=False, timeout=60)


def present(root: str) -> bool:
    """Is systemd-networkd what configures this machine?"""
    wants = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    return os.path.lexists(os.path.join(root, wants)) or os.path.isdir(os.path.join(root, "run/systemd/netif/links"))
