"""status.json: what the agent is doing, for `baremetal agent status`, scripts and the curious."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Dict, Optional

from baremetal.agents.resident.identity import State
from baremetal.protocol.agent import ConfigReport

FILE = "status.json"


class Status:
    """The document and its writing. `phase`: starting, waiting, applying, failed."""

    def __init__(self, state: State) -> None:
        self.state = state
        found = state.read(FILE)
        self.document: Dict[str, Any] = found if isinstance(found, dict) else {}
        self.document.update(phase="starting", server="unknown", since=time.time())

    def now(self, **facts: Any) -> None:
        """Set these and write, when anything changed."""
        if any(self.document.get(k, ...) != v for k, v in facts.items()):
            self.document.update(facts, since=time.time())
            with contextlib.suppress(OSError):  # a full disk: the log has it, and the report
                self.state.write(FILE, self.document)

    def applied(self, report: ConfigReport) -> None:
        document = report.to_json()
        document["at"] = time.time()
        self.now(report=document)


def exit_status(document: Optional[Dict[str, Any]]) -> int:
    """0 configured, 1 failed, 2 not yet, 3 drifted (as `agent status` exits)."""
    report = (document or {}).get("report")
    if not isinstance(report, dict):
        return 2
    if report.get("outcome") == "failed":
        return 1
    return 3 if (document or {}).get("drift") else 0
