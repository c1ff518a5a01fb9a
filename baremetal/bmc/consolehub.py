"""One serial console, many eyes: a BMC gives its line to one session only, so it is opened once and shared.

Whoever joins sees the last screenful and everything that follows; one of them
at a time has the keyboard. The line is closed when the last one leaves. When it is
lost everybody is told by the error, and who wants to goes on joins again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from baremetal.bmc.base import ConsoleStream
from baremetal.bmc.consolelog import ConsoleLog
from baremetal.bmc.faults import BmcBusy, BmcError
from baremetal.bmc.url import BmcUrl
from baremetal.secrets import Secret

log = logging.getLogger(__name__)

Open = Callable[[str, Secret], Awaitable[ConsoleStream]]
BACKLOG_BYTES = 8 * 1024
# Held for a viewer that does not read; then its oldest is thrown away, never the line delayed.
MOST_HELD = 1 << 20


class ConsoleHub:
    """The open lines of one process, by BMC."""

    def __init__(self, open_line: Open) -> None:
        self._open_line = open_line
        self._lines: dict[str, _Line] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    async def join(
        self,
        url: str,
        password: Secret,
        *,
        name: str = "",
        record: Path | None = None,
        title: str = "",
        backlog: bool = True,
    ) -> Viewer:
        """A place before this console; the line is opened for the first one. BmcError when that fails.

        `name` says who looks. `record`: the line is kept in this file, with times,
        unless somebody's joining had started a recording already. `backlog`: begin with
        what was last said to those who look already.
        """
        key = BmcUrl.parse(url).key
        async with self._opening.setdefault(key, asyncio.Lock()):
            line = self._lines.get(key)
            if line is None or line.error is not None:
                line = self._lines[key] = _Line(await self._open_line(url, password))
            if record is not None and line.log is None:
                line.log = ConsoleLog(record, title or key)
                line.log.mark(f"opened by {name or 'the server'}")
            viewer = Viewer(line, name, bytes(line.backlog) if backlog else b"")
            line.viewers.append(viewer)
            return viewer

    async def open(self, url: str, password: Secret) -> ConsoleStream:
        """As bmc.console.open_console: for who only reads what is said from now on."""
        return await self.join(url, password, name="recorder", backlog=False)

    async def close(self) -> None:
        """End all lines."""
        for line in list(self._lines.values()):
            await line.end()
        self._lines.clear()


class _Line:
    """One open console and who looks at it."""

    def __init__(self, stream: ConsoleStream) -> None:
        self.stream = stream
        self.viewers: list[Viewer] = []
        self.writer: Viewer | None = None
        self.log: ConsoleLog | None = None
        self.error: BmcError | None = None
        self.backlog = bytearray()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for chunk in self.stream:
                self._record(chunk)
                self.backlog += chunk
                del self.backlog[:-BACKLOG_BYTES]
                for viewer in self.viewers:
                    viewer.take_in(chunk)
            error = BmcError("console ended", cause="console")
        except BmcError as exc:
            error = exc
        except Exception as exc:  # a bug of ours: whoever looks is told, the next one gets a new line
            log.exception("a console broke")
            error = BmcError(f"console failed: {type(exc).__name__}: {exc}")
        self.error = error
        with contextlib.suppress(OSError, ValueError):
            if self.log:
                self.log.mark(error.brief)
        for viewer in self.viewers:
            viewer.take_in(b"")

    def _record(self, chunk: bytes) -> None:
        """A disk that is full ends the recording, not the console."""
        try:
            if self.log:
                self.log.output(chunk)
        except (OSError, ValueError) as exc:
            log.error("the recording %s ends: %s", self.log.path if self.log else "", exc)
            self._end_log()

    def _end_log(self) -> None:
        recording, self.log = self.log, None
        with contextlib.suppress(OSError, ValueError):
            if recording:
                recording.close()

    async def leave(self, viewer: Viewer) -> None:
        if viewer in self.viewers:
            self.viewers.remove(viewer)
        if self.writer is viewer:
            self.writer = None
        if not self.viewers:
            await self.end()

    async def end(self) -> None:
        """Close the line; safe to call twice."""
        self.error = self.error or BmcError("console closed", cause="closed")
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for viewer in self.viewers:
            viewer.take_in(b"")
        with contextlib.suppress(BmcError):
            await self.stream.close()
        self._end_log()


class Viewer:
    """One who looks: a ConsoleStream whose write() wants the keyboard."""

    def __init__(self, line: _Line, name: str, backlog: bytes) -> None:
        self.name = name
        self._line = line
        self._held = bytearray(backlog)
        self._news = asyncio.Event()
        self._closed = False

    @property
    def has_keys(self) -> bool:
        """May type."""
        return self._line.writer is self

    @property
    def holder(self) -> str:
        """Who may type now; "" when nobody does."""
        return self._line.writer.name if self._line.writer else ""

    def take_keys(self, *, force: bool = False) -> bool:
        """The keyboard, when nobody has it, or from whoever has it with `force`."""
        if self._line.writer is None or force:
            self._line.writer = self
        return self.has_keys

    def take_in(self, chunk: bytes) -> None:
        """The line's news; empty: it ended."""
        self._held += chunk
        del self._held[:-MOST_HELD]
        self._news.set()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def read(self) -> bytes:
        """What came since the last time, waiting for it; empty when closed here, BmcError when the line is lost."""
        while not self._closed:
            if self._held:
                chunk = bytes(self._held)
                self._held.clear()
                return chunk
            if self._line.error is not None:
                raise self._line.error
            self._news.clear()
            await self._news.wait()
        return b""

    async def write(self, data: bytes) -> None:
        self._need_keys()
        await self._line.stream.write(data)

    async def send_break(self) -> None:
        self._need_keys()
        await self._line.stream.send_break()

    def _need_keys(self) -> None:
        if self._line.error is not None:
            raise self._line.error
        if not self.has_keys:
            raise BmcBusy(
                f"the keyboard of this console is with {self.holder or 'nobody'}",
                fix="say --take to have it",
                cause="keys",
            )

    async def close(self) -> None:
        """Leaves; the last one closes the line."""
        if not self._closed:
            self._closed = True
            self._news.set()
            await self._line.leave(self)
