"""A BMC worker: one process that talks to many BMCs, so that the service need not.

Started by `pool.py` as `python -m baremetal.bmc.worker FD`; reads calls as JSON
lines from that socket, answers in the order of completion, and ends when the
socket does. Sessions stay warm between calls and are closed when idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from baremetal.bmc import wirejson
from baremetal.bmc.base import BmcDriver
from baremetal.bmc.drivers import driver
from baremetal.bmc.faults import BmcError, BmcTimeout, BmcUnsupported
from baremetal.bmc.url import BmcUrl
from baremetal.errors import BaremetalError

# BMCs drop a session after about 60 s of silence: it is kept alive in between …
ALIVE_S = 20.0
# … as long as somebody used it so lately (power is looked at every one or two minutes), then closed.
IDLE_S = 180.0
SWEEP_S = 5.0


class Worker:
    """Drivers by address and credentials, and the calls in progress."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.drivers: dict[tuple[str, str, str], BmcDriver] = {}
        self.used: dict[tuple[str, str, str], float] = {}
        self.busy: dict[tuple[str, str, str], int] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serves until the socket ends, then logs out everywhere, a second at most."""
        sweeper = asyncio.create_task(self._sweep())
        while line := await self.reader.readline():
            message = json.loads(line)
            match message["do"]:
                case "call":
                    task = asyncio.create_task(self._call(message))
                    self.tasks[message["id"]] = task
                case "cancel":
                    if task_found := self.tasks.get(message["id"]):
                        task_found.cancel()
                case "ping":
                    self._send({"id": message["id"], "ok": {"@": "map", "v": {"lost_threads": _lost_threads()}}})
        sweeper.cancel()
        for running in list(self.tasks.values()):
            running.cancel()
        closing = [asyncio.create_task(found.close()) for found in self.drivers.values()]
        if closing:
            await asyncio.wait(closing, timeout=1.0)

    async def _call(self, message: dict[str, Any]) -> None:
        number = message["id"]
        try:
            self._send({"id": number, "ok": wirejson.pack(await self._answer(message))})
        except BmcError as exc:
            self._send({"id": number, "fault": exc.to_json()})
        except BaremetalError as exc:
            self._send(
                {"id": number, "fault": {"code": exc.code, "brief": exc.brief, "detail": exc.detail, "fix": exc.fix}}
            )
        except asyncio.CancelledError:
            self._send({"id": number, "fault": {"code": "bmc-timeout", "brief": "call was cancelled"}})
        except Exception as exc:  # a bug in a driver must not take the other BMCs along
            fault = {"code": "bmc-error", "brief": f"driver failed: {type(exc).__name__}", "detail": str(exc)[:500]}
            self._send({"id": number, "fault": fault})
        finally:
            self.tasks.pop(number, None)

    async def _answer(self, message: dict[str, Any]) -> Any:
        url = BmcUrl.parse(message["url"])
        key = (message["url"], message["password"], message.get("kg") or "")
        found = self.drivers.get(key)
        if found is None:
            found = self.drivers[key] = driver(url, message["password"], message.get("kg"))
        self.busy[key] = self.busy.get(key, 0) + 1
        try:
            args = [wirejson.unpack(item) for item in message["args"]]
            kwargs = {name: wirejson.unpack(item) for name, item in message["kwargs"].items()}
            method = _above(message, url, found) or getattr(found, message["op"], None)
            if method is None:
                raise BmcUnsupported(f"{url.netloc}: this BMC cannot {message['op'].replace('_', ' ')}")
            async with asyncio.timeout(message["deadline_s"]):
                return await method(*args, **kwargs)
        except TimeoutError:
            raise BmcTimeout(
                f"{url.netloc}: {message['op']} not finished within {message['deadline_s']:.0f} s",
                fix="see whether other commands get an answer: baremetal bmc info --hosts " + url.host,
            ) from None
        finally:
            self.busy[key] -= 1
            self.used[key] = time.monotonic()

    async def _sweep(self) -> None:
        """Keeps sessions alive that are still wanted, and gives back the others."""
        touched: dict[tuple[str, str, str], float] = {}
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            idle = [key for key, when in self.used.items() if not self.busy.get(key) and now - when > ALIVE_S]
            closing = [key for key in idle if now - self.used[key] > IDLE_S]
            alive = [key for key in idle if key not in closing and now - touched.get(key, 0.0) > ALIVE_S]
            touched = {key: when for key, when in touched.items() if key in self.used} | dict.fromkeys(alive, now)
            await asyncio.gather(*(self._close(key) for key in closing), *(self._touch(key) for key in alive))

    async def _close(self, key: tuple[str, str, str]) -> None:
        self.used.pop(key, None)
        self.busy.pop(key, None)
        idle = self.drivers.pop(key, None)
        if idle is not None:
            with contextlib.suppress(BaremetalError, TimeoutError):
                async with asyncio.timeout(3.0):
                    await idle.close()

    async def _touch(self, key: tuple[str, str, str]) -> None:
        keep_alive = getattr(self.drivers.get(key), "keep_alive", None)
        if keep_alive is not None:
            with contextlib.suppress(BaremetalError, TimeoutError):
                async with asyncio.timeout(3.0):
                    await keep_alive()

    def _send(self, doc: dict[str, Any]) -> None:
        self.writer.write(wirejson.line(doc))


def _above(message: dict[str, Any], url: BmcUrl, bmc: BmcDriver) -> Callable[..., Any] | None:
    """What is done with a driver rather than by it; here too, so that the service waits for no BMC."""
    if message["op"] == "audit":
        from baremetal.bmc.audit import audit

        return partial(audit, url, bmc, password=message["password"])
    if message["op"] == "change_password":
        from baremetal.bmc.passwords import change

        return partial(change, url, bmc, kg=message.get("kg"))
    return None


def _lost_threads() -> int:
    module = sys.modules.get("baremetal.bmc.pyghmilink")
    return len(module.lost_threads) if module else 0


async def _serve(fd: int) -> None:
    end = socket.socket(fileno=fd)
    end.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=end, limit=wirejson.LONGEST_LINE)
    await Worker(reader, writer).run()


def main() -> None:
    """Ends with the socket; Ctrl-C is the parent's business. Hung threads do not hold the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ConnectionError):
        asyncio.run(_serve(int(sys.argv[1])))
    os._exit(0)


if __name__ == "__main__":
    main()
