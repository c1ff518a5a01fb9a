"""What a command handler gets, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.codes import Privilege
from baremetal.wire.ipmi.session import Session

ANYBODY = 0
#: The one LAN channel.
CHANNEL = 1


class Refuse(Exception):
    """Answer with this completion code and nothing else."""

    def __init__(self, code: int) -> None:
        super().__init__(hex(code))
        self.code = code


@dataclass(slots=True)
class Context:
    """`now` is Unix seconds. `session` is None outside one, and for the system interface inside the machine."""

    bmc: Bmc
    now: float
    session: Session | None = None
    sessions: Mapping[int, Session] = field(default_factory=dict)
    local: bool = False

    @property
    def privilege(self) -> int:
        """What the asker may do; the system interface is trusted."""
        if self.local:
            return Privilege.ADMIN
        return self.session.privilege if self.session else ANYBODY


Handler = Callable[[Context, bytes], bytes]


class Command(NamedTuple):
    """A handler and the privilege it needs (appendix G)."""

    privilege: int
    run: Handler


#: Commands by network function and command number.
Table = dict[tuple[int, int], Command]
