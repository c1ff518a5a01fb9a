"""QEMU's monitor protocol over an inherited socket: greet, order, listen for events."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any


class Qmp:
    """One QEMU's monitor. `on_event` hears every event; the connection ends with the process."""

    def __init__(self, sock: socket.socket, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._sock = sock
        self._on_event = on_event
        self._writer: asyncio.StreamWriter | None = None
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Read until QEMU closes the connection."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._sock)
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError):
            pass  # QEMU died in the middle of a line
        finally:
            self._writer.close()

    async def order(self, command: str, **arguments: Any) -> None:
        """Send a command; what became of it shows in events and in the process's end."""
        async with asyncio.timeout(10):
            await self._ready.wait()
        self._send({"execute": command, "arguments": arguments} if arguments else {"execute": command})

    def _take(self, message: dict[str, Any]) -> None:
        if "QMP" in message:
            self._send({"execute": "qmp_capabilities"})
            self._ready.set()
        elif "event" in message:
            self._on_event(message)

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")
