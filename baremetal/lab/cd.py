"""A machine's virtual CD: the image named to the BMC is fetched, and in the drive from the next power-on."""

from __future__ import annotations

import asyncio
import logging

import aiohttp

from baremetal.lab.machine import Machine

log = logging.getLogger(__name__)

_TIMEOUT_S = 600.0
_CHUNK = 1024 * 1024


class CdDrive:
    """Fetches images for one machine; the last one named wins."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._task: asyncio.Task[None] | None = None

    def load(self, url: str) -> None:
        """Fetch `url` and insert it; "" ejects."""
        if self._task is not None:
            self._task.cancel()
        self._machine.cd = None
        self._task = asyncio.get_running_loop().create_task(self._fetch(url)) if url else None

    async def _fetch(self, url: str) -> None:
        path = self._machine.directory / "cd0.iso"
        part = path.with_suffix(".part")
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as http,
                http.get(url, ssl=False) as response,
            ):
                response.raise_for_status()
                with part.open("wb") as out:
                    async for chunk in response.content.iter_chunked(_CHUNK):
                        out.write(chunk)
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            self._machine.trouble = f"virtual CD {url}: {exc}"
            log.warning("%s: %s", self._machine.spec.name, self._machine.trouble)
            return
        part.rename(path)
        self._machine.cd = path
