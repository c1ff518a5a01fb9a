"""A life of its own for a lab: fresh network, mount and pid namespaces that die with their first process.

Nothing a lab makes (interfaces, mounts, QEMUs) is seen outside, and nothing is
left when it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from baremetal.errors import MachineError, Refused
from baremetal.lab import control, tools

_LOCK = "lab.lock"
# No BAREMETAL_ name: those are settings.
_MARK = "BMLAB_NAMESPACE"


def inside() -> bool:
    """Are we the first process (or its child) of a lab's namespaces?"""
    return _MARK in os.environ


def check() -> None:
    """Raise MachineError, with the way out, when this machine cannot have a lab."""
    if os.geteuid() != 0:
        raise MachineError("the lab needs root", detail="it makes network namespaces and taps", fix="run it with sudo")
    for program in ("unshare", "setpriv", "nsenter", "ip"):
        if tools.find(program) is None:
            raise MachineError(
                f"{program} is not installed", fix=f"apt-get install --no-install-recommends {tools.PACKAGES[program]}"
            )
    if not Path("/dev/net/tun").exists():
        raise MachineError("there is no /dev/net/tun", detail="machines get taps from it", fix="modprobe tun")
    trial = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, check=False)
    if trial.returncode:
        raise MachineError(
            "this machine gives no namespaces",
            detail=trial.stderr.strip(),
            fix="in a container: run it privileged (--privileged), or use a virtual machine",
        )


def _unshare() -> list[str]:
    unshare = tools.find("unshare") or "unshare"
    return [unshare, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]


def command(argv: Sequence[str], *, die_with_parent: bool = True) -> list[str]:
    """`argv` as first process of fresh namespaces; with `die_with_parent` it ends when the caller does."""
    head = [tools.find("setpriv") or "setpriv", "--pdeathsig", "KILL", "--"] if die_with_parent else []
    return [*head, *_unshare(), "--", *argv]


def start(
    argv: Sequence[str],
    *,
    detached: bool = False,
    output: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` in fresh namespaces.

    Detached it outlives us and our terminal (for `lab up`, `demo --keep`);
    otherwise it dies with us. `output` takes stdout and stderr.
    """
    return subprocess.Popen(
        command(argv, die_with_parent=not detached),
        env={**os.environ, **(env or {}), _MARK: "1"},
        stdin=subprocess.DEVNULL if detached else None,
        stdout=output,
        stderr=output,
        start_new_session=detached,
    )


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


@contextmanager
def claimed(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for one lab; clear what an earlier one left half-written."""
    with _locked(state_dir, _LOCK, "a lab already runs", f"baremetal lab down --state-dir {state_dir}"):
        clear(state_dir)
        yield


def own(state_dir: Path) -> None:
    """Make the state directory, or refuse one where another user could lay links for us to write through."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        found = state_dir.lstat(), state_dir.stat()
    except OSError as exc:
        fix = "choose a directory on a local disk: --state-dir"
        raise MachineError(f"{state_dir} cannot be the lab's", detail=exc.strerror or str(exc), fix=fix) from exc
    for entry in found:
        if entry.st_uid not in (0, os.geteuid()):
            raise Refused(
                f"{state_dir} belongs to another user (uid {entry.st_uid})",
                detail="what that user puts there the lab would follow as root",
                fix="choose a directory of your own: --state-dir",
            )
    if found[1].st_mode & stat.S_IWOTH:
        raise Refused(
            f"everybody may write in {state_dir}",
            detail="what others put there the lab would follow as root",
            fix="choose a directory of your own: --state-dir",
        )


@contextmanager
def alone(state_dir: Path, lock: str, what: str) -> Iterator[None]:
    """Nobody else does this here meanwhile: what one writes there another would overwrite."""
    with _locked(state_dir, lock, what, "wait for it, or choose another place: --state-dir"):
        yield


@contextmanager
def _locked(state_dir: Path, lock: str, what: str, fix: str) -> Iterator[None]:
    own(state_dir)
    fd = os.open(state_dir / lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{what} in {state_dir}", fix=fix) from None
        yield
    finally:
        os.close(fd)


def clear(state_dir: Path) -> None:
    """Remove sockets and half-written files of a lab that is dead."""
    for pattern in ("*.sock", "*.part", "nodes/*/*.sock", "nodes/*/*.part"):
        for file in state_dir.glob(pattern):
            file.unlink(missing_ok=True)


def enter(state_dir: Path, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` inside the running lab's network, in the working directory that we have here."""
    nsenter = tools.find("nsenter") or "nsenter"
    target = ["--target", str(control.pid(state_dir)), "--net", "--mount", "--root"]
    # Entering a mount namespace leads to "/" (util-linux 2.38), where no relative file of argv is meant.
    return [nsenter, *target, f"--wdns={Path.cwd()}", "--", *argv]
