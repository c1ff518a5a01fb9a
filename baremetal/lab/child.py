"""How a process inside a lab's namespaces tells its parent why it ended: one JSON line on stderr."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from baremetal.errors import BaremetalError, MachineError

MARK = "error: {"


def run(work: Coroutine[Any, Any, None]) -> int:
    """Run until done; the exit status. An error of ours becomes the line that `failure` reads."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        asyncio.run(work)
    except BaremetalError as exc:
        error = {"code": exc.code, "brief": exc.brief, "detail": exc.detail, "fix": exc.fix, "exit": exc.exit_code}
        print("error: " + json.dumps(error), file=sys.stderr, flush=True)
        return exc.exit_code
    return 0


def failure(log: Path, brief: str) -> MachineError:
    """The error that a child's log speaks of; else `brief` with the log's last lines."""
    lines = log.read_text(errors="replace").splitlines()
    for line in reversed(lines):
        if line.startswith(MARK):
            said = json.loads(line.removeprefix("error: "))
            return MachineError(said["brief"], detail=said["detail"], fix=said["fix"])
    return MachineError(brief, detail="\n".join(lines[-10:]), fix=f"read {log}")
