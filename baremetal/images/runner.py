"""Starts a stage in its namespaces and follows its output; lastwords.py turns a failure into one clear error."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from baremetal.images import lastwords, stage
from baremetal.images.errors import ToolMissing
from baremetal.images.listener import Listener, ScriptTime

LOOK_S = 2.0
# Silent for so long on a disk with so little room left for ordinary users: apt-get waits for ever when its download
# finds no space.
STARVED_S, STARVED_BYTES = 20.0, 32 << 20


@dataclass
class Outcome:
    """What a stage left besides its layer."""

    scripts: list[ScriptTime] = field(default_factory=list)
    binds: list[list[str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0


Progress = Callable[[str, str], None]
"""Called with (phase, script) whenever a script starts."""


def run_stage(
    spec: stage.Spec,
    *,
    log: Path,
    timeout_s: float,
    progress: Progress,
    owner: Callable[[str], str],
) -> Outcome:
    """Run one phase; raises BuildFailed naming element, phase, script and last lines."""
    spec_file = log.with_suffix(".spec.json")
    spec.report = str(log.with_suffix(".report.json"))
    spec_file.write_text(json.dumps(asdict(spec)))
    Path(spec.report).unlink(missing_ok=True)
    command = [*namespace(), sys.executable, "-m", "baremetal.images.stage", str(spec_file)]
    outcome, tail, code = _follow(
        command, log, timeout_s, lambda script: progress(spec.phase, script), on_terminal=bool(spec.shell)
    )
    if code == 0:
        report = json.loads(Path(spec.report).read_text())
        outcome.binds, outcome.left = report["binds"], report["left"]
        for path in (spec_file, Path(spec.report)):
            path.unlink(missing_ok=True)
        return outcome
    script = next((s.name for s in reversed(outcome.scripts) if not s.done), "")
    what = f"gave no end within {timeout_s:.0f} s" if code == -signal.SIGALRM else f"failed (exit {code})"
    raise lastwords.failure(spec.phase, script, what, tail, log, owner, sourcing=not outcome.scripts)


def namespace() -> list[str]:
    """The command prefix: mounts, processes, host name and queues of its own; all of it dies with us."""
    return "unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private --".split()  # noqa: SIM905


# What the stage itself needs of ours; its scripts could read all of it in /proc/1/environ.
_PASSED = ("PATH", "HOME", "TERM", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


def environment() -> dict[str, str]:
    """The environment of the program in the namespace: no password or token of this shell's."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {**passed, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


def _follow(
    command: list[str], log: Path, timeout_s: float, started: Callable[[str], None], *, on_terminal: bool = False
) -> tuple[Outcome, list[str], int]:
    """Run it and read along. `on_terminal`: it may open a shell there, so it stays in our session."""
    begin, before = time.monotonic(), _children_cpu_s()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=not on_terminal,
            preexec_fn=die_with_parent,
        )
    except FileNotFoundError as exc:
        raise ToolMissing(f"{command[0]} not found", fix="apt install util-linux") from exc
    assert process.stdout is not None
    with open(log, "wb") as out:
        listener = Listener(out, started)
        try:
            _listen(process.stdout, listener, math.inf if on_terminal else begin + timeout_s)
            code = process.wait()
        except _Hung:
            _kill(process)
            code = -signal.SIGALRM
        except BaseException:
            _kill(process)
            raise
    outcome = Outcome(listener.scripts)
    outcome.seconds = time.monotonic() - begin
    outcome.cpu_s = _children_cpu_s() - before
    return outcome, list(listener.tail), code


def _listen(pipe: IO[bytes], listener: Listener, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _Hung
            if not selector.select(min(left, LOOK_S)):
                if time.monotonic() - listener.heard > STARVED_S and deadline != math.inf:
                    _room_left(listener.log)
                continue
            data = os.read(pipe.fileno(), 1 << 16)
            listener.hear(data)
            if not data:
                return


def _room_left(file: IO[bytes]) -> None:
    """OSError (ENOSPC) when the disk of this file is as good as full."""
    found = os.fstatvfs(file.fileno())
    if found.f_bavail * found.f_frsize < STARVED_BYTES:
        said = f"nothing was heard for {STARVED_S:.0f} s, and no room is left on the disk"
        raise OSError(errno.ENOSPC, said, file.name)


class _Hung(Exception):
    """The phase's time is over."""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # unshare takes the namespace's first process along, and that one all the rest
    process.wait()


def die_with_parent() -> None:
    """For a child, before it becomes a program: killed when this process is, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system
