"""A whole site in a lab: the rack, and beside it `baremetal serve` with a configuration of its own.

`python -m baremetal.lab.site LAB_DIR SPEC_FILE` is the first process inside the
namespaces. The server is the real one, started by its own command line; it is
started again when it dies, as systemd would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from baremetal.errors import MachineError
from baremetal.lab import child
from baremetal.lab.inside import serve_rack, spec_from_json
from baremetal.lab.rack import Rack
from baremetal.lab.spec import RackSpec

log = logging.getLogger(__name__)

CONFIG = "baremetal.toml"
READY = "ready"  # a file that is there while the server serves
SERVE_LOG = "serve.log"
START_S = 60.0
RESTART_S = 1.0
FLIP_BYTES = 4096


def config_text(spec: RackSpec, lab_dir: Path, cache_dir: Path) -> str:
    """The server's configuration file for this rack."""
    net = spec.server.rsplit(".", 1)[0]
    prefix = spec.ula.split("::", 1)[0] + "::/64"
    rows = {
        "state_dir": lab_dir / "site",
        "run_dir": lab_dir / "run",
        "cache_dir": cache_dir,
        "power_sync_s": 10.0,
    }
    lines = [f"{key} = {json.dumps(value if isinstance(value, float) else str(value))}" for key, value in rows.items()]
    network = {
        "name": "provisioning",
        "interface": spec.bridge,
        "cidr": spec.cidr,
        "server": spec.server,
        "range": f"{net}.50-{net}.250",
        "ra_prefix": prefix,
    }
    lines += ["", "[[network]]", *(f"{key} = {json.dumps(value)}" for key, value in network.items()), ""]
    return "\n".join(lines)


class Server:
    """`baremetal serve` as a child: started, watched, started again."""

    def __init__(self, lab_dir: Path) -> None:
        self.lab_dir = lab_dir
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Server:
        self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(START_S):
                await self._answers()
        except TimeoutError:
            await self._stop()
            raise self._failed("the server did not answer in time") from None
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def kill(self) -> None:
        """kill -9 of the whole server, as a crash would be; it is started again."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def _run(self) -> None:
        with (self.lab_dir / SERVE_LOG).open("ab") as out:
            while True:
                self.starts += 1
                self.process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "baremetal", "--config", str(self.lab_dir / CONFIG), "serve"),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
                code = await self.process.wait()
                log.warning("the server ended with %s; starting it again", code)
                await asyncio.sleep(RESTART_S)

    async def _answers(self) -> None:
        socket = self.lab_dir / "run" / "api.sock"
        while True:
            if self._task is not None and self._task.done():
                self._task.result()
            if self.starts > 1:
                raise self._failed("the server ended at once")
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(str(socket))
                writer.close()
                return
            await asyncio.sleep(0.1)

    def _failed(self, brief: str) -> MachineError:
        log_file = self.lab_dir / SERVE_LOG
        tail = log_file.read_text(errors="replace").splitlines()[-8:] if log_file.exists() else []
        return MachineError(brief, detail="\n".join(tail), fix=f"its log: {log_file}")

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            await self.kill()
            await process.wait()


class ImageSpoiler:
    """The fault `corrupt-image`: bytes in the middle of every stored disk image are flipped, and back."""

    def __init__(self, images_dir: Path) -> None:
        self.images_dir = images_dir
        self.spoiled: set[Path] = set()

    async def __call__(self, _node: str, on: bool) -> None:
        files = set(self.images_dir.glob("*/image.zst"))
        for file in files - self.spoiled if on else set(self.spoiled):
            _flip(file)
        self.spoiled = files if on else set()


def _flip(file: Path) -> None:
    """Invert some bytes in the middle, keeping size and time stamp, as a failing disk would."""
    stat = file.stat()
    at = stat.st_size // 2
    with file.open("r+b") as image:
        image.seek(at)
        bad = bytes(b ^ 0xFF for b in image.read(FLIP_BYTES))
        image.seek(at)
        image.write(bad)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


async def run(lab_dir: Path, spec: RackSpec) -> None:
    """Rack and server until stopped."""
    stop = asyncio.Event()
    server = Server(lab_dir)

    async def crash(_: dict[str, Any]) -> dict[str, Any]:
        await server.kill()
        return {"starts": server.starts}

    async with serve_rack(spec, lab_dir, stop, {"crash-server": crash}) as rack, server:
        _hook(rack, lab_dir)
        (lab_dir / READY).write_text(f"{os.getpid()}\n")
        try:
            await stop.wait()
        finally:
            (lab_dir / READY).unlink(missing_ok=True)


def _hook(rack: Rack, lab_dir: Path) -> None:
    rack.hooks["corrupt-image"] = ImageSpoiler(lab_dir / "site" / "images")


def main() -> int:
    """The exit status; an error is one JSON line on stderr, for the process that started us."""
    return child.run(run(Path(sys.argv[1]), spec_from_json(Path(sys.argv[2]).read_text())))


if __name__ == "__main__":
    raise SystemExit(main())
