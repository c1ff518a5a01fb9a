"""The system interface: the operating system inside a machine talks to the same BMC through QEMU's KCS device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from baremetal.lab.console import near
from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.commands import execute
from baremetal.wire.ipmi.commands.context import Context
from baremetal.wire.ipmi.vm import Decoder, response

SOCKET = "kcs.sock"


async def serve(directory: Path, bmc: Callable[[], Bmc]) -> asyncio.Server:
    """Listen in a machine's directory. Who asks from inside is trusted, as on iron."""

    async def machine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder()
        try:
            while data := await reader.read(1024):
                for request in decoder.feed(data):
                    answer = execute(Context(bmc(), time.time(), local=True), request)
                    writer.write(response(request, answer))
        except OSError:
            pass
        finally:
            writer.close()

    path = directory / SOCKET
    path.unlink(missing_ok=True)
    with near(path) as short:
        return await asyncio.start_unix_server(machine, short)
