"""`baremetal bmc console`: the serial console of one machine, with ipmitool's escapes, recorded, followed, replayed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from baremetal.cli import bmccall as call
from baremetal.errors import UsageError

if TYPE_CHECKING:
    from baremetal.bmc.base import ConsoleStream
    from baremetal.bmc.consolelog import ConsoleLog

HELP = (
    "\r\n~.  end   ~B  send a break   ~^Z  suspend   ~^X  suspend, terminal as it is   ~?  this list   ~~  a tilde\r\n"
)
# ipmitool's, after a tilde at the beginning of a line.
ESCAPES = {b".": "end", b"B": "break", b"?": "help", b"\x1a": "suspend", b"\x18": "suspend-raw"}
RECONNECT_S = (1.0, 2.0, 5.0, 10.0)


def register(app: typer.Typer) -> None:
    """Adds the verb to `baremetal bmc`."""
    app.command()(console)


def console(
    hosts: Annotated[list[str] | None, typer.Option("--hosts", "-H", help="The one BMC.")] = None,
    take: Annotated[bool, typer.Option("--take", help="End another's console first.")] = False,
    log: Annotated[Path | None, typer.Option("--log", help="Record to this file (asciicast v2).")] = None,
    quiet: Annotated[
        bool, typer.Option("--record-only", help="Record, show nothing, take no keys; until Ctrl-C.")
    ] = False,
    follow: Annotated[
        Path | None, typer.Option("--follow", help="Watch a recording as it grows; read-only, by any number.")
    ] = None,
    replay: Annotated[Path | None, typer.Option("--replay", help="Play a recording.")] = None,
    speed: Annotated[float, typer.Option("--speed", help="Of the replay.")] = 1.0,
    user: call.User = "",
    password_env: call.PasswordEnv = None,
    password_file: call.PasswordFile = None,
    kg_file: call.KgFile = None,
) -> None:
    """The serial console of one machine (IPMI Serial over LAN). Escapes after Enter: ~. ends, ~B break, ~? help."""
    if replay is not None:
        _replay(replay, speed)
        return
    if follow is not None:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(follow)
        return
    if not hosts:
        raise UsageError("whose console?", fix="--hosts ADDRESS, or --follow/--replay FILE")
    if quiet and log is None:
        raise UsageError("--record-only without --log", fix="name the file to record to")
    asked = call.Call(hosts, user, password_env, password_file, kg_file, None, "ipmi", 60.0, None, False)
    if len(asked.targets) != 1 or asked.targets[0].url is None:
        raise UsageError("a console is of one machine", fix="name one BMC")
    if asked.targets[0].error:
        raise asked.targets[0].error
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_session(asked, take, log, quiet))


async def _session(asked: call.Call, take: bool, path: Path | None, quiet: bool) -> None:
    """Opens the console, again when it is lost, until the person ends it."""
    from baremetal.bmc.consolelog import ConsoleLog
    from baremetal.bmc.faults import BmcAuth, BmcError

    target = asked.targets[0]
    log = ConsoleLog(path, target.host) if path else None
    keys = Keys()
    failures = 0
    try:
        with contextlib.nullcontext() if quiet else keys.raw():
            while True:
                try:
                    stream = await _open(asked, take)
                    _say(log, f"console of {target.host} open; ~? for help", quiet)
                    failures = 0
                    if await _pass(stream, keys, log, quiet):
                        return
                except BmcAuth:
                    raise
                except BmcError as exc:
                    if not failures and exc.cause in ("console", "console-taken") and not take:
                        raise
                    _say(log, f"{exc.brief}; trying again", quiet)
                await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
                failures += 1
    finally:
        if log:
            log.close()


async def _open(asked: call.Call, take: bool) -> ConsoleStream:
    from baremetal.bmc.console import open_console

    target = asked.targets[0]
    assert target.url is not None
    return await open_console(target.url, target.password or asked.password, asked.kg, take=take)


async def _pass(stream: ConsoleStream, keys: Keys, log: ConsoleLog | None, quiet: bool) -> bool:
    """Moves bytes both ways; True when the person ended it, BmcError when it was lost."""

    async def output() -> None:
        async for chunk in stream:
            if log:
                log.output(chunk)
            if not quiet:
                os.write(sys.stdout.fileno(), chunk)

    reading = asyncio.create_task(output())
    typing = asyncio.create_task(keys.to(stream)) if not quiet else None
    try:
        await asyncio.wait([task for task in (reading, typing) if task], return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        return typing is not None and typing.done()
    finally:
        for task in (reading, typing):
            if task:
                task.cancel()
        await stream.close()


class Typed(Protocol):
    """Where keys go."""

    async def write(self, data: bytes) -> None: ...

    async def send_break(self) -> None: ...


class Keys:
    """The terminal's keys, with ipmitool's escapes at the beginning of a line."""

    def __init__(self) -> None:
        self._line_start = True
        self._tilde = False
        self._before: Any = None

    @contextlib.contextmanager
    def raw(self) -> Any:
        """Raw mode for the time of the console; a pipe is left as it is."""
        if not sys.stdin.isatty():
            yield
            return
        before = self._before = termios.tcgetattr(sys.stdin)
        tty.setraw(sys.stdin)
        try:
            yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    def suspend(self, *, restore: bool) -> None:
        """Stop until the shell's `fg`; with `restore` the terminal is the shell's meanwhile."""
        if self._before is None:
            return
        if restore:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
        os.kill(os.getpid(), signal.SIGTSTP)
        tty.setraw(sys.stdin)

    async def to(self, stream: Typed) -> bool:
        """Sends what is typed; True at ~., False at the end of input."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        descriptor = sys.stdin.fileno()

        def ready() -> None:
            if not (typed := os.read(descriptor, 1024)):
                loop.remove_reader(descriptor)
            queue.put_nowait(typed)

        try:
            loop.add_reader(descriptor, ready)
        except PermissionError:  # a file or /dev/null: always ready, not to be waited for
            queue.put_nowait(os.read(descriptor, 1 << 16))
            queue.put_nowait(b"")
        try:
            while typed := await queue.get():
                plain, action = self.feed(typed)
                if plain:
                    await stream.write(plain)
                if action == "break":
                    await stream.send_break()
                elif action.startswith("suspend"):
                    self.suspend(restore=action == "suspend")
                elif action == "help":
                    os.write(sys.stdout.fileno(), HELP.encode())
                elif action == "end":
                    return True
            return False
        finally:
            loop.remove_reader(descriptor)

    def feed(self, typed: bytes) -> tuple[bytes, str]:
        """Characters to send, and the escape typed: "" or one of ESCAPES."""
        out = bytearray()
        for at, key in enumerate(typed):
            char = bytes((key,))
            if self._tilde:
                self._tilde = False
                action = ESCAPES.get(char, "")
                if action:
                    self._line_start = True
                    rest, following = self.feed(typed[at + 1 :]) if action != "end" else (b"", "")
                    return bytes(out) + rest, action or following
                out += char if char == b"~" else b"~" + char
            elif char == b"~" and self._line_start:
                self._tilde = True
                continue
            else:
                out += char
            self._line_start = char in (b"\r", b"\n")
        return bytes(out), ""


def _say(log: ConsoleLog | None, text: str, quiet: bool) -> None:
    if log:
        log.mark(text)
    if not quiet:
        sys.stderr.write(f"\r\n[{text}]\r\n")
        sys.stderr.flush()


def _replay(path: Path, speed: float) -> None:
    from baremetal.bmc.consolelog import replay

    for pause, text in replay(path, speed=speed):
        time.sleep(pause)
        sys.stdout.write(text)
        sys.stdout.flush()


def _follow(path: Path) -> None:
    """The last screenful, then what comes."""
    from baremetal.bmc.consolelog import read

    shown = 0
    while True:
        pieces = list(read(path))
        for _, kind, text in pieces[max(shown, len(pieces) - 200) if shown == 0 else shown :]:
            sys.stdout.write(text if kind == "o" else f"\r\n[{text}]\r\n")
        sys.stdout.flush()
        shown = len(pieces)
        time.sleep(0.3)
