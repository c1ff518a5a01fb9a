"""The command line: parse, call, render. Importing this costs nothing; `main` decides what is needed."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of `baremetal`: `agent` goes to the node's own code, everything else to Typer."""
    if sys.argv[1:2] == ["agent"]:
        from baremetal.agents.main import main as agent

        sys.exit(agent(sys.argv[2:]))
    _stand_in()
    # Typer imports rich for its help pages otherwise: 60 ms of CPU (research: engine.md §7).
    os.environ["TYPER_USE_RICH"] = "0"
    from baremetal.cli.app import run

    sys.exit(run(sys.argv[1:]))


def _stand_in() -> None:
    """Started with a closed stdin, stdout or stderr (`>&-`), the next file we open would take its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if number == 0 else "w"))
