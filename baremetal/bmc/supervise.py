"""Worker processes under supervision: started when needed, doubted when late, killed when deaf, replaced when gone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

from baremetal.bmc import wirejson

# A worker that does not answer a ping for so many seconds is killed.
PING_S = 3.0
LOGOUT_S = 2.0
# One with so many threads stuck in a library is replaced.
MOST_LOST_THREADS = 16


class WorkerGone(Exception):
    """The worker process ended or was killed while a call was under way."""


@dataclass
class WorkerProcess:
    """One worker process and the calls it owes an answer."""

    child: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    listener: asyncio.Task[None] | None = None
    gone: bool = False

    async def listen(self) -> None:
        """Hands answers to their callers until the worker ends."""
        with contextlib.suppress(ConnectionError, ValueError, asyncio.IncompleteReadError):
            while line := await self.reader.readline():
                doc = json.loads(line)
                future = self.waiting.pop(doc.get("id"), None)
                if future is not None and not future.done():
                    future.set_result(doc)
        self.gone = True
        self.writer.close()
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(WorkerGone())
        self.waiting.clear()

    def kill(self) -> None:
        self.gone = True
        with contextlib.suppress(ProcessLookupError):
            self.child.kill()
        self.writer.close()


class Slot:
    """A place for one worker; starts it when first needed and again when it was lost."""

    def __init__(self) -> None:
        self.process: WorkerProcess | None = None
        self.members = 0
        self.restarts = -1
        self._starting = asyncio.Lock()
        self._numbers = itertools.count(1)

    async def ready(self) -> WorkerProcess:
        async with self._starting:
            if self.process is None or self.process.gone:
                self.process = await start()
                self.restarts += 1
            return self.process

    async def ask(self, message: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        """One message and its answer; WorkerGone or TimeoutError."""
        process = await self.ready()
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        process.waiting[number] = future
        try:
            process.writer.write(wirejson.line({"id": number, **message}))
            async with asyncio.timeout(deadline_s):
                return await future
        except (asyncio.CancelledError, TimeoutError):
            if process.waiting.pop(number, None) is not None and not process.writer.is_closing():
                process.writer.write(wirejson.line({"id": number, "do": "cancel"}))
            raise

    async def doubt(self) -> None:
        """After a missed deadline: a worker that does not answer a ping is killed, one full of lost threads too."""
        process = self.process
        if process is None:
            return
        try:
            answer = await self.ask({"do": "ping"}, PING_S)
        except (TimeoutError, WorkerGone):
            process.kill()
            return
        if int(answer["ok"]["v"]["lost_threads"]) >= MOST_LOST_THREADS:
            process.kill()

    async def stop(self) -> None:
        """Lets the worker log out; kills it when that takes longer than LOGOUT_S."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.writer.write_eof()
        try:
            async with asyncio.timeout(LOGOUT_S):
                await process.child.wait()
        except TimeoutError:
            process.kill()
            await process.child.wait()
        process.writer.close()
        if process.listener:
            await process.listener


async def start() -> WorkerProcess:
    ours, theirs = socket.socketpair()
    with theirs:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "baremetal.bmc.worker",
            str(theirs.fileno()),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        )
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, limit=wirejson.LONGEST_LINE)
    process = WorkerProcess(child, reader, writer)
    process.listener = asyncio.create_task(process.listen())
    return process
