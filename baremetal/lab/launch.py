"""Start a lab in the background and wait until it answers; stop it and wait until it is gone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baremetal.errors import BaremetalError, NotFound, TimedOut
from baremetal.lab import child, control, inside, namespace, tools
from baremetal.lab.spec import RackSpec

LOG = "lab.log"
SPEC = "spec.json"
START_S = 60.0
STOP_S = 30.0


def up(spec: RackSpec, state_dir: Path, *, detached: bool = True) -> dict[str, Any]:
    """A rack in namespaces of its own, in the background; its status. Not detached, it dies with us."""
    tools.require(uefi=any(node.firmware == "uefi" for node in spec.nodes))
    namespace.check()
    with namespace.alone(state_dir, "starting.lock", "a lab is just being started"):
        with namespace.claimed(state_dir):
            pass  # refuses here, where nothing was written yet, when a lab already runs
        file = state_dir / SPEC
        file.touch(mode=0o600)  # a file and no argument: arguments are for everybody to read, and it has passwords
        file.write_text(inside.spec_to_json(spec))
        argv = namespace.python("baremetal.lab.inside", str(state_dir), str(file))
        return run_inside(argv, state_dir, detached=detached)


def run_inside(argv: Sequence[str], state_dir: Path, *, detached: bool = True) -> dict[str, Any]:
    """`argv` in fresh namespaces; returns its status once its control socket answers."""
    log = state_dir / LOG
    with log.open("wb") as output:
        process = namespace.start(argv, detached=detached, output=output)
    try:
        return _wait(process, state_dir, log)
    except KeyboardInterrupt:  # detached, it does not hear the terminal
        process.kill()
        process.wait()
        raise


def _wait(process: subprocess.Popen[bytes], state_dir: Path, log: Path) -> dict[str, Any]:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            return control.ask(state_dir, {"do": "status"})
        except NotFound:
            if process.poll() is not None:
                raise child.failure(log, "the lab ended at once") from None
            time.sleep(0.05)
    process.kill()
    raise TimedOut(f"the lab did not start in {START_S:.0f} s", detail=_tail(log), fix=f"read {log}")


def down(state_dir: Path) -> bool:
    """Stop the lab and everything in it; False when none ran."""
    try:
        control.ask(state_dir, {"do": "down"})
    except NotFound:
        if not state_dir.is_dir():
            return False
        with namespace.claimed(state_dir):  # Refused: one runs that does not answer yet
            return False
    until = time.monotonic() + STOP_S
    while time.monotonic() < until:
        try:
            with namespace.claimed(state_dir):
                return True
        except BaremetalError:
            time.sleep(0.05)
    raise TimedOut(f"the lab did not end in {STOP_S:.0f} s", fix=f"kill -9 {control.pid(state_dir)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
