"""The last lines of a failed phase as one error: which script of which element, what it said itself, what helps."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from baremetal.images import stage, userns
from baremetal.images.errors import BuildFailed

# dib-run-parts says these on stderr.
_RUNNING = re.compile(r"^dib-run-parts Running .*/([^/\s]+)/([^/\s]+)$")
_SOURCED = re.compile(r"^dib-run-parts Sourcing environment file .*/(environment\.d/[^/\s]+)$")
_FRAME = re.compile(r'^  File "[^"]+", line \d+')
LONGEST_LINE = 300


def failure(
    phase: str,
    script: str,
    what: str,
    tail: Sequence[str],
    log: Path,
    owner: Callable[[str], str],
    *,
    sourcing: bool,
) -> BuildFailed:
    """The error for a phase that ended badly in `script` ("": in none). `sourcing`: no script had begun."""
    where = f"{phase}.d/{script}" if script else phase
    sourced = [match[1] for match in map(_SOURCED.match, tail) if match]
    if sourcing and sourced:
        where = sourced[-1]
    element = owner(where)
    lines = _own_lines(tail)
    return BuildFailed(
        f"{element + ': ' if element else ''}{where} {what}",
        detail="\n".join(f"  | {line}" for line in lines) + f"\nlog: {log}",
        fix=_fix(lines),
    )


def script_started(line: str) -> str | None:
    """The script whose beginning this line of dib-run-parts, or of ours, tells."""
    if match := _RUNNING.match(line):
        return match[2]
    for mark in (stage.MARK, printable(stage.MARK)):
        if line.startswith(f"{mark}script="):
            return line.partition("=")[2]
    return None


def printable(line: str) -> str:
    """A line of a script's output that does nothing to a terminal, cut to a length one can read."""
    shown = "".join(char if char.isprintable() or char == "\t" else "?" for char in line)
    return shown if len(shown) <= LONGEST_LINE else shown[:LONGEST_LINE] + " …"


def _own_lines(tail: Sequence[str]) -> list[str]:
    """What the failed script said itself: nothing from before it began, traces only when there is nothing else."""
    began = max((number for number, line in enumerate(tail, 1) if script_started(line)), default=0)
    said = [line for line in tail[began:] if not line.startswith(("dib-run-parts", printable(stage.MARK)))]
    told = _without_progress([line for line in said if not line.startswith("+")] or said)
    return _without_frames(told) or ["(it said nothing)"]


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


# What apt and dpkg say of what goes well.
_PROGRESS = re.compile(
    r"(> )?((Get|Hit|Ign):\d+ |Fetched |Reading (package lists|state)|Building dependency tree|\(Reading database"
    r"|(Selecting previously|Preparing to unpack|Unpacking|Setting up|Processing triggers) |I: )"
)


def _without_progress(lines: list[str]) -> list[str]:
    """Without what went well, unless that is all there is."""
    return [line for line in lines if not _PROGRESS.match(line)] or lines


_MIRROR = "name another: DIB_DISTRIBUTION_MIRROR=URL"
_SHELL = "look inside with: baremetal image build … --shell-on-failure"
# What a script's last lines say, and what helps; "%s" takes the word in the pattern's brackets.
_HELP = (
    (
        r"'install-packages': No such file",
        "extra packages want an element with install-packages: add a distribution, such as debian-base",
    ),
    (
        r"DIB_INIT_SYSTEM is not set",
        "`base` wants an operating system with an init system: add debian-base or debian-minimal, or give -n",
    ),
    (
        r"The variable <(\w+)> is not set",
        f"a package list's `when:` asks for it: export %s=…, or set it in the definition's [env]; {_SHELL}",
    ),
    (
        r"cannot execute: required file not found|bad interpreter",
        f"its first line names a program that is not there, or ends as on Windows (dos2unix); {_SHELL}",
    ),
    (
        r"No space left on device|You don't have enough free space",
        f"make room: baremetal image cache prune --limit 5GiB, or use another --cache-dir; {_SHELL}",
    ),
    (
        r"dpkg.*(?:data is corrupt|unexpected end of file)",
        "a package file is damaged: rm -r dib/apt in the cache directory; all are fetched again",
    ),
    (
        r"Unable to locate package|Version '.*' for '.*' was not found|has no installation candidate",
        f"a package list names what the mirror has not: correct it, or ask the mirror anew with --refresh; {_SHELL}",
    ),
    (
        r"404 +Not Found",
        f"the mirror has dropped what its index named: ask it anew with --refresh, or {_MIRROR}",
    ),
    (
        r"Hash Sum mismatch",
        f"the mirror, or a proxy before it, gives other files than its index names: again later, or {_MIRROR}",
    ),
    (
        r"(?:Could not|Unable to) connect to|(?:Temporary failure|Could not) resolv|Connection (?:failed|timed out)",
        f"the mirror does not answer: again later, or {_MIRROR}",
    ),
    (
        r"Read-only file system",
        f"scripts write below $TMP_BUILD_DIR, $DIB_IMAGE_CACHE and /tmp; --unconfined lets them anywhere; {_SHELL}",
    ),
)


def _fix(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    for pattern, help_ in _HELP:
        if found := re.search(pattern, text):
            return help_ % found.groups() if found.groups() else help_
    if "Operation not permitted" in text and not userns.initial():
        return f"this element seems to need root: sudo baremetal image build …; or {_SHELL}"
    return _SHELL
