"""A virtual BMC on the loopback, where real clients find it on UDP 623."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import shutil
import subprocess
import sys
import threading
import time
import tty
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from baremetal.lab.bmc import Fleet, VirtualBmc
from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.wire.ipmi.bmc import Identity

sys.path.insert(0, str(Path(__file__).parent))

from loopback import address

ADDRESS = address(1)
UUID = uuid.UUID("4c4c4544-0033-4000-8000-000000000001")


class Bench:
    """The BMC in a loop of its own (clients block), and ways to run clients."""

    def __init__(self) -> None:
        self.chassis = MemoryChassis()
        identity = Identity(name="r1-u07", vendor="Acme", product="X1", serial="SN42", uuid=UUID)
        self.bmc = diskless_bmc(self.chassis, identity=identity)
        self.virtual = VirtualBmc(self.bmc, ADDRESS)

    def terminal(self, *argv: str, said: list[tuple[bytes, bytes]], timeout: float = 120) -> bytes:
        """Run a client on a terminal: wait for a text, type the next keys, and so on; all it showed."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
        os.close(slave)
        shown, at, end = b"", 0, time.monotonic() + timeout
        try:
            for text, keys in said:
                while text not in shown[at:]:
                    left = end - time.monotonic()
                    assert left > 0, f"{text!r} did not come: {shown!r}"
                    if select.select([master], [], [], left)[0]:
                        shown += os.read(master, 4096)
                at = shown.index(text, at) + len(text)
                os.write(master, keys)
            process.wait(timeout)
            with contextlib.suppress(OSError):
                while select.select([master], [], [], 0)[0] and (data := os.read(master, 4096)):
                    shown += data
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            os.close(master)
        return shown

    def run(self, *argv: str, timeout: float = 180, ok: bool = True) -> str:
        """Standard output and error of a client."""
        assert shutil.which(argv[0]), f"{argv[0]} is missing: hack/setup test"
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        text = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, f"{argv}: {done.returncode}\n{text}"
        return text

    def ipmitool(
        self, *words: str, password: str = "password", user: str = "admin", ok: bool = True, suite: int = 0
    ) -> str:
        chosen = ("-C", str(suite)) if suite else ()
        login = ("-I", "lanplus", "-H", ADDRESS, "-U", user, "-P", password, "-N", "2", "-R", "8")
        return self.run("ipmitool", *login, *chosen, *words, ok=ok)

    def freeipmi(self, tool: str, *words: str, password: str = "password", user: str = "admin", ok: bool = True) -> str:
        login = ("-h", ADDRESS, "-u", user, "-p", password, "-D", "LAN_2_0", "-l", "ADMIN")
        return self.run(tool, *login, *words, ok=ok)


@contextmanager
def serving(bench: Bench) -> Iterator[Bench]:
    """Serve in a thread until the end of the block."""
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with Fleet([bench.virtual]):
            ready.set()
            while not stop.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(60), "the BMC did not start"
    try:
        yield bench
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with serving(Bench()) as running:
        yield running
