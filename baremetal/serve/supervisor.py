"""`baremetal serve`: starts the control and the boot process, starts them again when they die, stops them in order.

Does nothing else and imports little: what never does anything never crashes. The
children start as root, open what needs root, and give it up (privileges.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from baremetal.config import Settings
from baremetal.errors import EXIT_MACHINE, EXIT_OK, EXIT_USAGE, BaremetalError, MachineError
from baremetal.serve import preflight
from baremetal.serve.handover import PARENT, READY_FD
from baremetal.serve.handover import say as say_error
from baremetal.serve.owners import hand_over

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # before the next start; the last repeats
STEADY_S = 30.0  # who served so long starts again without delay
STOP_S = 10.0  # then SIGKILL
# A child that ends with one of these before it ever served will do so again: tell the operator instead.
HOPELESS = (EXIT_MACHINE, EXIT_USAGE)


@dataclass
class Process:
    """One child and its history."""

    name: str
    module: str
    running: subprocess.Popen[bytes] | None = None
    ready: bool = False
    started: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    ever_ready: bool = False
    pipe: int = -1


@dataclass
class Supervisor:
    """Runs until told to stop, or until a child cannot start for a reason only a person can cure."""

    env: Mapping[str, str]
    processes: list[Process] = field(
        default_factory=lambda: [
            Process("control", "baremetal.serve.control"),
            Process("boot", "baremetal.serve.bootproc"),
        ]
    )
    stopping: bool = False
    exit_code: int = EXIT_OK
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self) -> int:
        """The whole life; returns the exit code."""
        with _signals(self._selector):
            try:
                while not self.stopping:
                    self._start_due()
                    self._wait(self._timeout())
                    self._reap()
            finally:
                notify("STOPPING=1")
                self._stop_all()
        return self.exit_code

    def _start_due(self) -> None:
        now = time.monotonic()
        for process in self.processes:
            if process.running is None and process.start_at <= now:
                self._start(process, now)

    def _start(self, process: Process, now: float) -> None:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        env = {**self.env, READY_FD: str(write), PARENT: str(os.getpid()), "MALLOC_ARENA_MAX": "2"}
        process.running = subprocess.Popen(
            [sys.executable, "-m", process.module],
            env=env,
            pass_fds=(write,),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches only us, and we stop them in order
        )
        os.close(write)
        process.pipe, process.ready, process.started = read, False, now
        self._selector.register(read, selectors.EVENT_READ, process)

    def _timeout(self) -> float | None:
        waiting = [p.start_at for p in self.processes if p.running is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _wait(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Process):
                self._hear(key.data)
            elif any(number in (signal.SIGTERM, signal.SIGINT) for number in os.read(key.fd, 64)):
                self.stopping = True

    def _hear(self, process: Process) -> None:
        """The child's pipe: "ready", or its end."""
        with contextlib.suppress(OSError):
            process.ready = os.read(process.pipe, 64).startswith(b"ready")
        self._forget_pipe(process)
        if process.ready:
            process.ever_ready = True
            say(f"{process.name} process serves (pid {process.running.pid if process.running else '?'})")
        if all(p.ready for p in self.processes):
            notify(
                "READY=1", f"STATUS=serving, pids {' '.join(str(p.running.pid) for p in self.processes if p.running)}"
            )

    def _forget_pipe(self, process: Process) -> None:
        if process.pipe >= 0:
            self._selector.unregister(process.pipe)
            os.close(process.pipe)
            process.pipe = -1

    def _reap(self) -> None:
        for process in self.processes:
            code = process.running.poll() if process.running is not None else None
            if code is not None:
                self._ended(process, code)

    def _ended(self, process: Process, code: int) -> None:
        self._forget_pipe(process)
        process.running, process.ready = None, False
        if self.stopping:
            return
        if code in HOPELESS and not process.ever_ready:
            self.stopping, self.exit_code = True, code
            return
        now = time.monotonic()
        process.failures = 0 if now - process.started > STEADY_S else process.failures + 1
        pause = BACKOFF_S[min(max(process.failures - 1, 0), len(BACKOFF_S) - 1)]
        process.start_at = now + pause
        say(f"{process.name} process {how_ended(code)}; it starts again in {pause:g} s")
        notify(f"STATUS={process.name} process {how_ended(code)}, starting again")

    def _stop_all(self) -> None:
        """The boot plane first, so that it can still hand its last messages to control."""
        for process in reversed(self.processes):
            running = process.running
            if running is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                running.terminate()
            try:
                running.wait(STOP_S)
            except subprocess.TimeoutExpired:
                say(f"{process.name} process does not stop: killed")
                running.kill()
                running.wait()
            self._forget_pipe(process)


def serve(settings: Settings, env: Mapping[str, str]) -> int:
    """Check that it can work, then supervise. MachineError says what is missing."""
    preflight.check(settings)
    if any(network.added for network in settings.networks):  # the certificate must name their addresses
        subprocess.run([sys.executable, "-m", "baremetal.serve.init"], env=dict(env), check=False)
    hand_over(settings)
    with _only_one(settings.run_dir):
        return Supervisor(env).run()


def how_ended(code: int) -> str:
    """A wait status in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def say(text: str) -> None:
    print(f"baremetal serve: {text}", file=sys.stderr, flush=True)


def notify(*lines: str) -> None:
    """Tell systemd (sd_notify); nothing without it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.send("\n".join(lines).encode())


@contextlib.contextmanager
def _only_one(run_dir: Path) -> Iterator[None]:
    """Hold run_dir/serve.lock; a second server on the same state is refused."""
    path = run_dir / "serve.lock"
    file: IO[str]
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as exc:
        raise MachineError(f"cannot write {path}: {exc.strerror}", fix="run as root, or set run_dir") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise MachineError(
                f"another baremetal serve runs on {run_dir} (pid {file.read().strip() or '?'})",
                fix="use that one, or stop it first: systemctl stop baremetal",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def _signals(selector: selectors.BaseSelector) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGCHLD wake the selector; old handlers come back afterwards."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    old = {number: signal.signal(number, lambda *_: None) for number in numbers}
    old_fd = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    selector.register(read, selectors.EVENT_READ, "signals")
    try:
        yield
    finally:
        selector.unregister(read)
        signal.set_wakeup_fd(old_fd)
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def main() -> int:
    """What `baremetal serve` becomes: the settings are in the environment by now."""
    try:
        return serve(Settings.load(), os.environ)
    except BaremetalError as exc:
        say_error(exc)
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
