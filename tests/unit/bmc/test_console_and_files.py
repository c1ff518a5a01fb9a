"""A full disk ends a recording, not the console; a broken console is told to whoever looks; a CA is a plain file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from baremetal.bmc.consolehub import ConsoleHub, Viewer
from baremetal.bmc.faults import BmcError
from baremetal.bmc.tlspin import Pin, context
from baremetal.secrets import Secret

URL = "ipmi://a@10.0.0.1"


class Machine:
    """A console that says one letter after the other; at "!" it breaks."""

    def __init__(self, says: str) -> None:
        self.says = says

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for letter in self.says:
            await asyncio.sleep(0.01)
            if letter == "!":
                raise RuntimeError("a bug")
            yield letter.encode()
        await asyncio.Event().wait()

    async def write(self, data: bytes) -> None:
        return

    async def send_break(self) -> None:
        return

    async def close(self) -> None:
        return


async def read_on(viewer: Viewer) -> None:
    while await viewer.read():
        pass


def hub(*consoles: str) -> ConsoleHub:
    lines = iter(consoles)

    async def opened(url: str, password: Secret) -> Machine:
        return Machine(next(lines))

    return ConsoleHub(opened)


async def test_a_full_disk_ends_the_recording_not_the_console(tmp_path: Path) -> None:
    viewer = await hub("abc").join(URL, Secret(""), record=tmp_path / "console.log")
    log = viewer._line.log
    assert log is not None
    log._file.close()
    log._file = open("/dev/full", "a")  # noqa: ASYNC230, SIM115 (the log closes it)
    heard = b""
    async with asyncio.timeout(20):
        while heard != b"abc":
            heard += await viewer.read()
    assert viewer._line.log is None
    await viewer.close()


async def test_a_console_that_breaks_is_told_and_opened_anew() -> None:
    consoles = hub("ab!", "cd")
    viewer = await consoles.join(URL, Secret(""))
    async with asyncio.timeout(20):
        assert b"ab".startswith(await viewer.read())
        with pytest.raises(BmcError, match="a bug"):
            await read_on(viewer)
    again = await consoles.join(URL, Secret(""))
    async with asyncio.timeout(20):
        assert await again.read() == b"c"
    await consoles.close()


def test_a_pipe_is_no_ca_file(tmp_path: Path) -> None:
    """Opening it would wait for a writer for ever, and with it the worker and all its BMCs."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no file"):
        context(str(tmp_path / "pipe"), Pin())
