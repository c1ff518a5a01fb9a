"""What the supervisor hands to its children, and how all three say an error. Imports next to nothing."""

from __future__ import annotations

import sys

from baremetal.errors import BaremetalError

READY_FD = "BAREMETAL_READY_FD"  # a pipe: one line when the child serves
PARENT = "BAREMETAL_PARENT"  # the supervisor's pid: the child ends when it dies


def say(error: BaremetalError) -> None:
    """The error for a person: what, what was seen, what to do."""
    lines = [f"error: {error.brief}"]
    lines += [f"  {line}" for line in error.detail.splitlines()]
    if error.fix:
        lines.append(f"  fix: {error.fix}")
    print("\n".join(lines), file=sys.stderr, flush=True)
