"""`baremetal node console`: the serial console of a node, live through the server, watched by several, recorded."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.cli import clean, render
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import Json, NodeName
from baremetal.errors import BaremetalError, Refused, UsageError

if TYPE_CHECKING:
    from baremetal.cli.bmcconsole import Keys

_END = object()


def console(
    node: NodeName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch only, beside others.")] = False,
    take: Annotated[bool, typer.Option("--take", help="Take the keyboard from whoever has it.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Print the recording of the last boot and end.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Play the recording with its times.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="The recordings there are.")] = False,
    boot: Annotated[str, typer.Option(help="Print this recording; with --replay, --raw: this one [the last].")] = "",
    speed: Annotated[float, typer.Option("--speed", help="Of the replay.")] = 1.0,
    raw: Annotated[bool, typer.Option("--raw", help="The recording as an asciicast (asciinema play).")] = False,
    as_json: Json = False,
) -> None:
    """The serial console, live. Escapes after Enter as ipmitool's: ~. ends, ~B break, ~^Z suspend, ~? help.

    Several may watch; one has the keyboard. Every session is recorded by the server.

    \b
    Examples:
      baremetal node console r1-u07
      baremetal node console r1-u07 --follow
      baremetal node console r1-u07 --log | less -R
      baremetal node console r1-u07 --replay --speed 4
    """
    client = Client.default()
    if sum((follow or take, log or bool(boot and not (replay or raw)), replay, list_, raw)) > 1:
        raise UsageError("one of --follow, --log, --replay, --list and --raw at a time")
    if list_:
        doc = client.get(node_path(node, "consoles"))
        rows = [
            row | {"size": render.size(row["bytes"]), "last": render.clock(row["until"])} for row in doc["recordings"]
        ]
        render.json_out(doc) if as_json else render.table(
            rows, ["boot", "size", "last"], empty="nothing was recorded yet"
        )
    elif log or raw or (boot and not replay):
        told = client.get(node_path(node, "console"), boot=boot, raw=1 if raw else None) or ""
        print(told if raw or not sys.stdout.isatty() else clean.recorded(told), end="")
    elif replay:
        _replay(client.get(node_path(node, "console"), boot=boot, raw=1) or "", speed)
    else:
        _live(client, node, follow, take)


def _replay(text: str, speed: float) -> None:
    from baremetal.bmc import consolelog

    with tempfile.NamedTemporaryFile("w", suffix=".cast", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        with contextlib.suppress(KeyboardInterrupt):
            for pause, piece in consolelog.replay(Path(file.name), speed=speed):
                time.sleep(pause)
                sys.stdout.write(piece)
                sys.stdout.flush()


def _live(client: Client, node: str, follow: bool, take: bool) -> None:
    import asyncio

    from baremetal.cli.bmcconsole import Keys

    session = _Live(client, node, take)
    keys = Keys()
    with contextlib.nullcontext() if follow else keys.raw():
        try:
            asyncio.run(session.watch() if follow else session.talk(keys))
        except KeyboardInterrupt:
            pass
        finally:
            session.over = True
    if session.failure is not None:
        raise session.failure


class _Live:
    """One session: a thread reads the stream, keys go out by requests of their own."""

    def __init__(self, client: Client, node: str, take: bool) -> None:
        import asyncio

        self.client, self.node, self.take = client, node, take
        self.session = ""
        self.opened = asyncio.Event()
        self.over = False
        self.failure: BaremetalError | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def watch(self, *, keys: bool = False) -> None:
        """Shows until the stream ends."""
        import asyncio

        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Any] = asyncio.Queue()

        def put(item: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                loop.call_soon_threadsafe(queue.put_nowait, item)

        def read() -> None:
            query = {"keys": 1, "take": 1 if self.take else None} if keys else {}
            try:
                for frame in self.client.stream(node_path(self.node, "console", "live"), **query):
                    put(frame)
                    if self.over:
                        return
            except BaremetalError as exc:
                self.failure = exc
            put(_END)

        threading.Thread(target=read, daemon=True).start()
        while (frame := await queue.get()) is not _END:
            if self._show(*frame):
                return

    def _show(self, kind: str, doc: dict[str, Any]) -> bool:
        """One frame; True at the end."""
        if kind == "o":
            os.write(sys.stdout.fileno(), doc["d"].encode("latin-1"))
        elif kind == "m":
            _say(doc["text"])
        elif kind == "session":
            self.session = doc["session"]
            self.opened.set()
            who = "" if doc["keys"] or not doc["holder"] else f"; {doc['holder']} has the keyboard, --take takes it"
            _say(f"console of {doc['node']} open{who}; ~? for help")
        elif kind == "end":
            error = doc["error"]
            self.failure = Refused(error["brief"], detail=error.get("detail", ""), fix=error.get("fix", ""))
            return True
        return False

    async def talk(self, keys: Keys) -> None:
        """Shows, and types, until either ends."""
        import asyncio

        showing = asyncio.create_task(self.watch(keys=True))
        typing = asyncio.create_task(keys.to(self))
        await asyncio.wait({showing, typing}, return_when=asyncio.FIRST_COMPLETED)
        if typing.done() and not typing.result() and not sys.stdin.isatty():
            await showing  # what was piped in is sent; the answer is still to come
        for task in (showing, typing):
            task.cancel()

    async def write(self, data: bytes) -> None:
        """Keys to the machine."""
        await self._post(d=data.decode("latin-1"))

    async def send_break(self) -> None:
        await self._post(**{"break": True})

    async def _post(self, **body: Any) -> None:
        import asyncio

        await self.opened.wait()
        call = {"session": self.session, **body}
        try:
            await asyncio.to_thread(self.client.post, node_path(self.node, "console", "keys"), call)
        except BaremetalError as exc:
            _say(exc.brief + (f"; {exc.fix}" if exc.fix else ""))


def _say(text: str) -> None:
    sys.stderr.write(f"\r\n[{text}]\r\n")
    sys.stderr.flush()


def register(app: typer.Typer) -> None:
    """Add the command to `node`."""
    app.command()(console)
