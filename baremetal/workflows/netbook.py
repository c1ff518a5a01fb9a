"""Provisioning networks while the server runs: those of the configuration file, and those that `network add` brings.

Added ones are kept in a file of the state directory, as tables like those of the
configuration; it is read at the next start too. A network belongs to one
server's interfaces, so this is not in the database that servers may share.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from baremetal.errors import MachineError, NotFound, Refused, UsageError
from baremetal.model.nettable import disjoint, networks_from
from baremetal.model.network import Network
from baremetal.wire.dhcp4.options import check


class NetBook:
    """`possible` raises what stands in the way of serving a network here; `changed` is told all networks."""

    def __init__(
        self,
        path: Path,
        networks: tuple[Network, ...],
        possible: Callable[[Network], None],
        changed: Callable[[tuple[Network, ...]], None],
    ) -> None:
        self._path, self.networks = path, networks
        self._possible, self._changed = possible, changed

    def add(self, table: Mapping[str, Any]) -> Network:
        """Serve this network from now on. UsageError names every mistake."""
        problems: list[str] = []
        found = networks_from([dict(table)], "network add", problems, check)
        if found and not problems:
            disjoint((*self.networks, *found), "network add", problems)
        if problems or not found:
            said = [
                problem.replace("network add: [[network]] 1: ", "").replace("network add: ", "") for problem in problems
            ]
            raise UsageError(
                f"no such network can be: {said[0] if said else 'nothing said'}", detail="\n".join(said[1:])
            )
        network = dataclasses.replace(found[0], added=True)
        self._possible(network)
        self._write([*self._tables(), {**table, "name": network.name}])
        self._set((*self.networks, network))
        return network

    def remove(self, name: str) -> Network:
        """Serve it no longer. Refused for one of the configuration file, and while relayed ones hang on it."""
        network = next((n for n in self.networks if n.name == name), None)
        if network is None:
            raise NotFound(f"there is no network {name!r}", fix="baremetal network list")
        if not network.added:
            raise Refused(
                f"network {name} stands in the configuration file",
                fix="take its [[network]] table out there, then: systemctl restart baremetal",
            )
        rest = tuple(n for n in self.networks if n is not network)
        problems: list[str] = []
        disjoint(rest, "network", problems)
        if problems:
            raise Refused(f"network {name} is needed by a relayed one", detail="\n".join(problems))
        if not rest:
            raise Refused(f"{name} is the last network: a server without one serves nothing")
        self._write([table for table in self._tables() if table.get("name") != name])
        self._set(rest)
        return network

    def _set(self, networks: tuple[Network, ...]) -> None:
        self.networks = networks
        self._changed(networks)

    def _tables(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as exc:
            raise MachineError(f"{self._path} cannot be read: {exc}", fix="correct it, or move it away") from exc
        return list(found)

    def _write(self, tables: list[dict[str, Any]]) -> None:
        """Whole or not at all."""
        new = self._path.with_suffix(".new")
        try:
            with new.open("w") as file:
                json.dump(tables, file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as exc:
            raise MachineError(f"cannot write {self._path}: {exc.strerror}", fix="check free space: df -h") from exc
