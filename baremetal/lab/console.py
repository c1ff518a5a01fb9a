"""A machine's serial console: one stable place to read and write it, whichever QEMU process runs.

Clients connect to a unix socket, get the last 16 KiB and then what comes; what
they type goes to the machine. The log file is QEMU's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

HISTORY = 16 * 1024
_CLIENT_BACKLOG = 1024 * 1024

Listener = Callable[[bytes], None]


class Console:
    """The hub. `attach` a QEMU's end of the line; `listen` to hear it inside this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history = b""
        self._listeners: list[Listener] = []
        self._clients: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._machine: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        """Listen on the unix socket."""
        self.path.unlink(missing_ok=True)
        with _near(self.path) as short:
            self._server = await asyncio.start_unix_server(self._client, short)
        os.chmod(self.path, 0o600)

    async def close(self) -> None:
        """Hang up on everyone."""
        if self._server is not None:
            self._server.close()
        for writer in (*self._clients, *([self._machine] if self._machine else [])):
            writer.close()
        self.path.unlink(missing_ok=True)

    async def attach(self, sock: socket.socket) -> None:
        """Carry a QEMU's serial line until that QEMU ends."""
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        self._machine = writer
        try:
            while data := await reader.read(4096):
                self._spread(data)
        except OSError:
            pass
        finally:
            if self._machine is writer:
                self._machine = None
            writer.close()

    def write(self, data: bytes) -> bool:
        """Type into the machine; False when it is off."""
        if self._machine is None or self._machine.is_closing():
            return False
        self._machine.write(data)
        return True

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with all that comes; returns the way to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _spread(self, data: bytes) -> None:
        self.history = (self.history + data)[-HISTORY:]
        for listener in list(self._listeners):
            listener(data)
        for writer in list(self._clients):
            if writer.transport.get_write_buffer_size() > _CLIENT_BACKLOG:
                writer.close()  # it does not read: hanging up is better than growing
            else:
                writer.write(data)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        writer.write(self.history)
        with contextlib.suppress(OSError):
            while data := await reader.read(1024):
                self.write(data)
        self._clients.discard(writer)
        writer.close()


class _near:
    """A short name for a path: unix socket names end at 107 bytes, state directories may be deeper."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self._fd = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._fd}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


near = _near
