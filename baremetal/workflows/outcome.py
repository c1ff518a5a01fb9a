"""What one pass over a node answers."""

from __future__ import annotations

from dataclasses import dataclass

from baremetal.model.fault import Fault


@dataclass(frozen=True)
class Done:
    """This step (or workflow) is finished; the next one may begin at once."""

    because: str


@dataclass(frozen=True)
class Wait:
    """Evidence must come: `topic` names what for, `until` (Unix seconds) is when we stop believing in it.

    `look_s`: look again every so many seconds even without evidence.
    """

    because: str
    until: float
    topic: str
    look_s: float | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Again:
    """Look again in `after_s` seconds. `fault`: what keeps going wrong meanwhile, shown beside the state."""

    after_s: float
    because: str
    fault: Fault | None = None


@dataclass(frozen=True)
class Failed:
    """The workflow stops here; an operator's verb starts it again."""

    fault: Fault


Outcome = Done | Wait | Again | Failed
