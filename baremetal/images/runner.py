"""Starts a stage in its namespaces, follows its output, turns failure into one clear error."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from baremetal.images import stage, userns
from baremetal.images.errors import BuildFailed, ToolMissing

# dib-run-parts says these on stderr.
_RUNNING = re.compile(r"^dib-run-parts Running .*/([^/\s]+)/([^/\s]+)$")
_FRAME = re.compile(r'^  File "[^"]+", line \d+')
_SOURCED = re.compile(r"^dib-run-parts Sourcing environment file .*/(environment\.d/[^/\s]+)$")
_DONE = re.compile(r"^dib-run-parts (\S+) completed$")
TAIL_LINES = 15
LONGEST_LINE = 300
LOOK_S = 2.0
# Silent for so long on a disk with so little room left for ordinary users: apt-get waits for ever when its download
# finds no space.
STARVED_S, STARVED_BYTES = 20.0, 32 << 20


@dataclass
class ScriptTime:
    """One script's wall seconds; `done` False when it was the one that failed."""

    name: str
    seconds: float = 0.0
    done: bool = False


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
    raise _failure(spec, outcome, tail, code, log, timeout_s, owner)


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
    outcome = Outcome()
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    begin = time.monotonic()
    before = _children_cpu_s()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=not on_terminal,
            preexec_fn=_die_with_parent,
        )
    except FileNotFoundError as exc:
        raise ToolMissing(f"{command[0]} not found", fix="apt install util-linux") from exc
    assert process.stdout is not None
    try:
        with open(log, "wb") as out:
            _read_lines(process.stdout, out, outcome, tail, math.inf if on_terminal else begin + timeout_s, started)
        code = process.wait()
    except _Hung:
        _kill(process)
        code = -signal.SIGALRM
    except BaseException:
        _kill(process)
        raise
    outcome.seconds = time.monotonic() - begin
    outcome.cpu_s = _children_cpu_s() - before
    return outcome, list(tail), code


def _read_lines(
    pipe: IO[bytes],
    out: IO[bytes],
    outcome: Outcome,
    tail: deque[str],
    deadline: float,
    started: Callable[[str], None],
) -> None:
    buffer = b""
    script_began = heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _Hung
            if not selector.select(min(left, LOOK_S)):
                if time.monotonic() - heard > STARVED_S and deadline != math.inf:
                    _room_left(out)
                continue
            heard = time.monotonic()
            data = os.read(pipe.fileno(), 1 << 16)
            if not data:
                return
            out.write(data)
            out.flush()
            *lines, buffer = (buffer + data).split(b"\n")
            for raw in lines:
                line = raw.decode(errors="replace").rstrip("\r")
                tail.append(printable(line.rpartition("\r")[2]))  # a progress bar writes over itself
                name = _script_started(line)
                if name:
                    script_began = time.monotonic()
                    outcome.scripts.append(ScriptTime(name))
                    started(name)
                elif _DONE.match(line) and outcome.scripts:
                    outcome.scripts[-1].seconds = time.monotonic() - script_began
                    outcome.scripts[-1].done = True


def _room_left(file: IO[bytes]) -> None:
    """OSError (ENOSPC) when the disk of this file is as good as full."""
    found = os.fstatvfs(file.fileno())
    if found.f_bavail * found.f_frsize < STARVED_BYTES:
        said = f"nothing was heard for {STARVED_S:.0f} s, and no room is left on the disk"
        raise OSError(errno.ENOSPC, said, file.name)


def printable(line: str) -> str:
    """A line of a script's output that does nothing to a terminal, cut to a length one can read."""
    shown = "".join(char if char.isprintable() or char == "\t" else "?" for char in line)
    return shown if len(shown) <= LONGEST_LINE else shown[:LONGEST_LINE] + " …"


class _Hung(Exception):
    """The phase's time is over."""


def _script_started(line: str) -> str | None:
    match = _RUNNING.match(line)
    if match:
        return match[2]
    if line.startswith(stage.MARK + "script="):
        return line.partition("=")[2]
    return None


def _failure(
    spec: stage.Spec,
    outcome: Outcome,
    tail: list[str],
    code: int,
    log: Path,
    timeout_s: float,
    owner: Callable[[str], str],
) -> BuildFailed:
    script = next((s.name for s in reversed(outcome.scripts) if not s.done), "")
    where = f"{spec.phase}.d/{script}" if script else spec.phase
    sourced = [match[1] for match in map(_SOURCED.match, tail) if match]
    if not outcome.scripts and sourced:
        where = sourced[-1]
    element = owner(where)
    what = f"gave no end within {timeout_s:.0f} s" if code == -signal.SIGALRM else f"failed (exit {code})"
    lines = _own_lines(tail)
    return BuildFailed(
        f"{element + ': ' if element else ''}{where} {what}",
        detail="\n".join(f"  | {line}" for line in lines) + f"\nlog: {log}",
        fix=_fix(lines),
    )


def _own_lines(tail: list[str]) -> list[str]:
    """What the failed script said itself: nothing from before it began, traces only when there is nothing else."""
    began = max((number for number, line in enumerate(tail, 1) if _script_started(line)), default=0)
    said = [line for line in tail[began:] if not line.startswith(("dib-run-parts", printable(stage.MARK)))]
    return _without_frames([line for line in said if not line.startswith("+")] or said) or ["(it said nothing)"]


def _without_frames(lines: list[str]) -> list[str]:
    """A Python script's traceback cut to its last frame and what it was: the log has all of it."""
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    if not frames:
        return lines
    began = next((n for n, line in enumerate(lines[: frames[0]]) if line.startswith("Traceback (most")), None)
    # What the header's line is not among: the tail may begin in the middle of a traceback.
    before = lines[:began] if began is not None else [line for line in lines[: frames[0]] if not line.startswith(" ")]
    after = [line for line in lines[frames[-1] + 1 :] if not line.startswith("    ")]
    return [*before, lines[frames[-1]].strip(), *after]


def _fix(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    shell = "look inside with: baremetal image build … --shell-on-failure"
    if "'install-packages': No such file" in text:
        return "extra packages want an element with install-packages: add a distribution, such as debian-base"
    if "DIB_INIT_SYSTEM is not set" in text:
        return "`base` wants an operating system with an init system: add debian-base or debian-minimal, or give -n"
    unset = re.search(r"The variable <(\w+)> is not set", text)
    if unset:
        return (
            f"a package list's `when:` asks for it: export {unset[1]}=…, or set it in the definition's [env]; {shell}"
        )
    if "cannot execute: required file not found" in text or "bad interpreter" in text:
        return f"its first line names a program that is not there, or ends as on Windows (dos2unix); {shell}"
    if "No space left on device" in text:
        return f"make room: baremetal image cache prune --limit 5GiB, or use another --cache-dir; {shell}"
    if "Read-only file system" in text:
        return (
            f"scripts write below $TMP_BUILD_DIR, $DIB_IMAGE_CACHE and /tmp; --unconfined lets them anywhere; {shell}"
        )
    if "Operation not permitted" in text and not userns.initial():
        return f"this element seems to need root: sudo baremetal image build …; or {shell}"
    return shell


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # unshare takes the namespace's first process along, and that one all the rest
    process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system
