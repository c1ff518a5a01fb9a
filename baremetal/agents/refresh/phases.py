"""The four phases of a refresh run, in order, each a directory of scripts."""

from __future__ import annotations

import os
import time
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence

from baremetal.agents.refresh import parts
from baremetal.agents.refresh.runner import Outcome, run

PHASES = ("pre-configure", "configure", "post-configure", "migration")
ERROR_PHASE = "error"
BASE = "/usr/libexec/os-refresh-config"
OLD_BASE = "/opt/stack/os-config-refresh"


class Script(NamedTuple):
    """One script that ran."""

    phase: str
    name: str
    outcome: Outcome


class Failure(NamedTuple):
    """What ended the run. `script` is None when environment.d failed or the time was over between scripts."""

    phase: str
    script: Optional[str]
    why: str
    tail: str


class Run(NamedTuple):
    """A run of phases: every script, and the failure that ended it, if one did."""

    scripts: List[Script]
    failure: Optional[Failure]


def base_directory() -> str:
    """Where the phases are: the environment, else the first known place that exists."""
    from_environment = os.environ.get("OS_REFRESH_CONFIG_BASE_DIR")
    if from_environment is not None:
        return from_environment
    return OLD_BASE if not os.path.isdir(BASE) and os.path.isdir(OLD_BASE) else BASE


class Runner:
    """Runs phases of one base directory under one deadline.

    `say` gets a line per script; `keep`: output goes to the result, not through;
    `skip`: names of scripts whose work was done already.
    """

    def __init__(
        self,
        base: str,
        env: Mapping[str, str],
        *,
        total_s: Optional[float] = None,
        script_s: Optional[float] = None,
        keep: bool = False,
        skip: Sequence[str] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.base = base
        self.env = env
        self.keep = keep
        self.skip = frozenset(skip)
        self.say = say
        self.script_s = script_s
        self.deadline = None if not total_s else time.monotonic() + total_s

    def run(self, phases: Sequence[str] = PHASES) -> Run:
        """These phases; the first failing script ends it."""
        done: List[Script] = []
        for phase in phases:
            failure = self._phase(phase, done)
            if failure is not None:
                return Run(done, failure)
        return Run(done, None)

    def errors(self, limit_s: Optional[float] = 300.0) -> List[Script]:
        """The handlers in error.d, after a failure; how they end changes nothing."""
        self.deadline = None if limit_s is None else time.monotonic() + limit_s
        done: List[Script] = []
        self._phase(ERROR_PHASE, done)
        return done

    def _phase(self, phase: str, done: List[Script]) -> Optional[Failure]:
        directory = os.path.join(self.base, f"{phase}.d")
        if not os.path.isdir(directory):
            return None
        for path in parts.environment_files(directory):
            self.say(f"Sourcing environment file {path}")
        try:
            env = parts.environment(directory, self.env)
        except parts.BadEnvironment as exc:
            return Failure(phase, None, exc.brief, exc.detail)
        for path in parts.scripts(directory):
            name = os.path.basename(path)
            if name in self.skip:
                continue
            limit = self._limit()
            if limit is not None and limit <= 0:
                return Failure(phase, name, "the time of the run is over", "")
            self.say(f"Running {path}")
            outcome = run(path, env, timeout_s=limit, keep=self.keep)
            done.append(Script(phase, name, outcome))
            if outcome.timed_out:
                return Failure(phase, name, f"killed after {outcome.seconds:.0f} s", outcome.tail)
            if outcome.exit != 0:
                return Failure(phase, name, f"exit status {outcome.exit}", outcome.tail)
        return None

    def _limit(self) -> Optional[float]:
        left = None if self.deadline is None else self.deadline - time.monotonic()
        return left if self.script_s is None else min(self.script_s, left if left is not None else self.script_s)
