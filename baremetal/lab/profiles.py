"""Vendor profiles of virtual BMCs, read from profiles.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from baremetal.errors import NotFound
from baremetal.wire.ipmi.bmc import Bmc, Identity
from baremetal.wire.ipmi.quirks import Quirks

_FILE = Path(__file__).with_name("profiles.toml")
_IDENTITY = ("vendor", "product", "serial", "manufacturer", "guid_order")


@dataclass(frozen=True)
class Profile:
    """How a BMC differs from a plain one. `identity`, `quirks` and `redfish` hold only the fields that do."""

    name: str
    about: str
    identity: dict[str, Any] = field(default_factory=dict)
    quirks: dict[str, Any] = field(default_factory=dict)
    redfish: dict[str, Any] = field(default_factory=dict)
    suites: tuple[int, ...] = (3, 17)
    max_sessions: int = 4

    def identify(self, identity: Identity) -> Identity:
        """The identity under this profile."""
        return replace(identity, **self.identity)

    def fresh_quirks(self) -> Quirks:
        """The quirks of the firmware, without injected faults."""
        return Quirks(**self.quirks)

    def apply(self, bmc: Bmc) -> None:
        """Put sessions, suites and quirks as the firmware has them; also the way back from faults."""
        bmc.quirks, bmc.suites, bmc.max_sessions = self.fresh_quirks(), self.suites, self.max_sessions


@cache
def profiles() -> dict[str, Profile]:
    """All profiles by name."""
    out = {}
    for name, row in tomllib.loads(_FILE.read_text()).items():
        identity = {key: row.pop(key) for key in _IDENTITY if key in row}
        suites = tuple(row.pop("suites", (3, 17)))
        out[name] = Profile(name, identity=identity, suites=suites, **row)
    return out


def profile(name: str) -> Profile:
    """One profile."""
    try:
        return profiles()[name]
    except KeyError:
        raise NotFound(f"no BMC profile {name!r}", fix="known: " + ", ".join(profiles())) from None
