"""The command line: parse, call, render. Importing this costs nothing; `main` decides what is needed."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of `baremetal`: `agent` goes to the node's own code, everything else to Typer."""
    if sys.argv[1:2] == ["agent"]:
        from baremetal.agents.main import main as agent

        sys.exit(agent(sys.argv[2:]))
    # Typer imports rich for its help pages otherwise: 60 ms of CPU (research: engine.md §7).
    os.environ["TYPER_USE_RICH"] = "0"
    from baremetal.cli.app import run

    sys.exit(run(sys.argv[1:]))
