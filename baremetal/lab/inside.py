"""The first process inside a lab's namespaces: `python -m baremetal.lab.inside STATE_DIR SPEC.json`.

Runs the rack and its control socket until told to stop. `serve_rack` is the same
for others (the demo) that put more inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from baremetal.lab import child, namespace, reaper
from baremetal.lab.control import Control, Handler
from baremetal.lab.rack import Rack
from baremetal.lab.spec import MachineSpec, RackSpec


@contextlib.asynccontextmanager
async def serve_rack(
    spec: RackSpec, state_dir: Path, stop: asyncio.Event, extra: dict[str, Handler] | None = None
) -> AsyncIterator[Rack]:
    """A rack with its control socket. `stop` is set by `down`, SIGTERM and SIGINT; `extra` adds verbs."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with namespace.claimed(state_dir):
        async with Rack(spec, state_dir) as rack:

            async def status(_: dict[str, Any]) -> dict[str, Any]:
                return await rack.status()

            async def fault(request: dict[str, Any]) -> dict[str, Any]:
                await rack.inject(str(request.get("node")), str(request.get("fault")))
                return {}

            async def down(_: dict[str, Any]) -> dict[str, Any]:
                loop.call_later(0.05, stop.set)  # let the answer out first
                return {}

            handlers: dict[str, Handler] = {"status": status, "fault": fault, "down": down, **(extra or {})}
            burying = loop.create_task(reaper.reap()) if os.getpid() == 1 else None
            try:
                async with Control(state_dir, handlers):
                    yield rack
            finally:
                if burying is not None:
                    burying.cancel()


def spec_to_json(spec: RackSpec) -> str:
    """A spec as text for the inner process."""
    return json.dumps(dataclasses.asdict(spec))


def spec_from_json(text: str) -> RackSpec:
    """The way back."""
    document = json.loads(text)
    nodes = document.pop("nodes")
    for node in nodes:
        node["boot_order"] = tuple(node["boot_order"])
    return RackSpec(nodes=tuple(MachineSpec(**node) for node in nodes), **document)


async def _main(state_dir: Path, spec: RackSpec) -> None:
    stop = asyncio.Event()
    async with serve_rack(spec, state_dir, stop):
        await stop.wait()


def main() -> int:
    """The exit status; an error is one JSON line on stderr, for the process that started us."""
    return child.run(_main(Path(sys.argv[1]), spec_from_json(Path(sys.argv[2]).read_text())))


if __name__ == "__main__":
    raise SystemExit(main())
