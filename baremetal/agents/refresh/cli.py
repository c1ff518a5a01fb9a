"""`baremetal agent refresh` (os-refresh-config) and `baremetal agent run-parts` (dib-run-parts).

Exit: 0 done, 1 a script failed, 2 usage, 11 another run holds the lock.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import signal
import sys
import time
from typing import List, Optional, Sequence

from baremetal.agents.refresh import parts
from baremetal.agents.refresh.phases import PHASES, Runner, Script, base_directory
from baremetal.agents.refresh.runner import run

LOCK = "/var/run/os-refresh-config.lock"
LEVELS = ("ERROR", "WARN", "CRITICAL", "INFO", "DEBUG")


def main(argv: Optional[Sequence[str]] = None, prog: str = "os-refresh-config") -> int:
    options = _parser(prog).parse_args(argv)
    if options.print_base:
        print(base_directory())
        return 0
    if options.print_phases:
        print("\t".join(PHASES))
        return 0
    try:
        lock = _take(options.lockfile)
    except OSError as exc:
        print(f"{prog}: cannot open lock file {options.lockfile}: {exc.strerror}", file=sys.stderr)
        return 1
    if lock is None:
        print(f"{prog}: another run holds {options.lockfile}{_holder(options.lockfile)}", file=sys.stderr)
        return errno.EAGAIN
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that scripts end with us
    try:
        return _run(options, prog)
    finally:
        os.ftruncate(lock, 0)
        os.close(lock)


def run_parts(argv: Optional[Sequence[str]] = None, prog: str = "dib-run-parts") -> int:
    """Run, or list, the scripts of one directory."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Run the scripts of a directory in the order of their numbers."
    )
    parser.add_argument("--list", action="store_true", help="print the scripts, run nothing")
    parser.add_argument("directory")
    options = parser.parse_args(argv)
    if not os.path.isdir(options.directory):
        print(f"{prog}: {options.directory} is not a directory", file=sys.stderr)
        return 1
    if options.list:
        for path in parts.scripts(options.directory):
            print(path)
        return 0
    return _run_directory(options.directory, prog)


def _run_directory(directory: str, prog: str) -> int:
    done: List[Script] = []
    try:
        env = parts.environment(directory, os.environ)
    except parts.BadEnvironment as exc:
        print(f"{prog}: {exc}", file=sys.stderr)
        return 1
    for path in parts.scripts(directory):
        _say(f"Running {path}")
        outcome = run(path, env)
        done.append(Script("", os.path.basename(path), outcome))
        if outcome.exit != 0:
            _say(f"{path} failed: exit status {outcome.exit} {outcome.tail}")
            _profile(done)
            return outcome.exit
    _profile(done)
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Run the scripts of all phases, in order.")
    add = parser.add_argument
    add("--print-base", action="store_true", help="print the base directory")
    add("--print-phases", action="store_true", help="print the phases, tabs between")
    add("--log-level", choices=LEVELS, default="INFO", help="(default: %(default)s)")
    add("--lockfile", default=LOCK, metavar="FILE", help="held while running (default: %(default)s)")
    add("--timeout", type=_seconds, default=0, metavar="S", help="kill everything after this time (default: none)")
    return parser


def _seconds(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("not a number of seconds")
    return value


def _take(path: str) -> Optional[int]:
    """The lock, with our process id in it; None when another run has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _holder(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            pid = f.read(20).strip()
    except OSError:
        return ""
    return f" (process {pid})" if pid.isdigit() else ""


def _run(options: argparse.Namespace, prog: str) -> int:
    quiet = options.log_level in ("ERROR", "CRITICAL")
    say = (lambda line: None) if quiet else _say
    runner = Runner(base_directory(), os.environ, total_s=options.timeout or None, say=say)
    result = runner.run()
    if result.scripts and not quiet:
        _profile(result.scripts)
    if result.failure is None:
        return 0
    failure = result.failure
    where = f"{failure.phase}.d/{failure.script}" if failure.script else f"{failure.phase}.d"
    print(f"{prog}: {where}: {failure.why} {failure.tail}".rstrip(), file=sys.stderr)
    runner.errors()
    return 1


def _say(line: str) -> None:
    print(f"dib-run-parts {time.strftime('%Y-%m-%dT%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _profile(scripts: Sequence[Script]) -> None:
    print("dib-run-parts ----------------------- PROFILING -----------------------", file=sys.stderr)
    for script in scripts:
        print(f"dib-run-parts {script.name:<40} {script.outcome.seconds:10.3f}", file=sys.stderr)
