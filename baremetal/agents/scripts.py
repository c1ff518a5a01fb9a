"""Programs that elements bring into the ramdisk for cleaning, deploying and servicing.

An element puts them into ramdisk-steps.d/; here they lie in STEPS. One is
called with the order's arguments as JSON on its standard input. It prints
`progress DONE TOTAL` lines as it goes, its last line may be a JSON object: the
result. Any exit status but 0 is a failure, with what it printed as evidence.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List

from baremetal.agents.trouble import OrderRefused, StepFailed

STEPS = "/usr/lib/baremetal/steps"
LONGEST_S = 24 * 3600.0
KEPT_LINES = 200
MAX_LINE = 4000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
Progress = Callable[[str, int, int, str], None]


def known(folder: str = STEPS) -> List[str]:
    """Names of the programs this ramdisk has."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [n for n in names if _NAME.match(n) and os.access(os.path.join(folder, n), os.X_OK)]


def run(args: Dict[str, Any], progress: Progress, folder: str = STEPS) -> Dict[str, Any]:
    """Run one; {"script", "result", "seconds", "tail"}."""
    name, given = args.get("script"), args.get("args") or {}
    if name not in known(folder):
        raise OrderRefused(
            f"this ramdisk has no step {name!r}",
            detail=f"it has: {', '.join(known(folder)) or 'none'}",
            fix="put it into an element's ramdisk-steps.d/ and build the ramdisk with that element",
        )
    if not isinstance(given, dict):
        raise OrderRefused("the arguments of a step are a JSON object")
    timeout_s = min(float(args.get("timeout_s") or 3600.0), LONGEST_S)
    started = time.monotonic()
    process = subprocess.Popen(
        [os.path.join(folder, str(name))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={"PATH": "/usr/sbin:/usr/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"},
    )
    tail = _watch(process, json.dumps(given).encode() + b"\n", str(name), timeout_s, progress)
    seconds = round(time.monotonic() - started, 2)
    if process.returncode:
        what = f"was stopped after {timeout_s:.0f} s" if process.returncode < 0 else f"ended with {process.returncode}"
        raise StepFailed(
            f"step {name} {what}",
            detail="\n".join(tail)[-1500:],
            fix="see what it printed; then ask the verb again",
            script=str(name),
            exit=process.returncode,
        )
    return {"script": name, "result": _result(tail), "seconds": seconds, "tail": tail[-10:]}


def _watch(process: "subprocess.Popen[bytes]", given: bytes, name: str, timeout_s: float, tell: Progress) -> List[str]:
    """Feed it, read it to its end; its last lines. Killed when its time is over."""
    assert process.stdin
    assert process.stdout
    alarm = threading.Timer(timeout_s, _kill, (process,))
    alarm.daemon = True
    alarm.start()
    lines: List[str] = []
    try:
        tell(name, 0, 0, "")
        try:
            process.stdin.write(given)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it does not read its arguments
        for raw in iter(lambda: process.stdout.readline(MAX_LINE), b""):  # type: ignore[union-attr]
            line = raw.decode("utf-8", "replace").rstrip()
            words = line.split()
            if len(words) == 3 and words[0] == "progress" and words[1].isdigit() and words[2].isdigit():
                tell(name, int(words[1]), int(words[2]), "parts")
            else:
                lines = [*lines, line][-KEPT_LINES:]
        process.wait()
    except BaseException:
        _kill(process)
        raise
    finally:
        alarm.cancel()
    return lines


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """The program and what it started: a child that lives on would hold its output open."""
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
        os.killpg(process.pid, signal.SIGKILL)


def _result(lines: List[str]) -> Dict[str, Any]:
    try:
        doc = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return doc if isinstance(doc, dict) else {}
