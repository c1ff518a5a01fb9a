"""Puts a host network in place, and takes it back unless the server can be reached with it.

The files go through a transaction as all others do; then systemd-networkd
reads them anew. A machine that nobody can reach any more cannot report, so the
judge is a connection to our own server.
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
from baremetal.agents.resident import networkd
from baremetal.errors import BaremetalError

DIRECTORY = "etc/systemd/network"
REACH_S = 60.0
CONNECT_S = 3.0


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
        reload: Optional[Callable[[], None]] = None,
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
            transaction = Transaction(changes, self.state, "network")
            transaction.stage()
            transaction.commit()
            self.reload()
            if self.reachable():
                transaction.finish()
                return True
            transaction.undo()
            self.reload()
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

    def _ours(self) -> List[str]:
        try:
            return sorted(n for n in os.listdir(self.directory) if n.startswith(networkd.PREFIX))
        except FileNotFoundError:
            return []


def restart_networkd() -> None:
    """Virtual devices are made by a fresh start only; addresses stay while it restarts."""
    subprocess.run(["systemctl", "restart", "systemd-networkd.service"], check=False, timeout=60)


def present(root: str) -> bool:
    """Is systemd-networkd what configures this machine?"""
    wants = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    return os.path.lexists(os.path.join(root, wants)) or os.path.isdir(os.path.join(root, "run/systemd/netif/links"))
