"""Hears what a phase says: keeps its log, its last lines, and which script ran how long. However much it says."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from baremetal.images import lastwords

# dib-run-parts says it on stderr.
_DONE = re.compile(r"^dib-run-parts (\S+) completed$")
TAIL_LINES = 15
LARGEST_LOG = 64 << 20  # bytes; a script that talks without end does not fill the disk
LONGEST_LINE = 64 << 10  # bytes of a line that is looked at


@dataclass
class ScriptTime:
    """One script's wall seconds; `done` False when it was the one that failed."""

    name: str
    seconds: float = 0.0
    done: bool = False


@dataclass
class Listener:
    """What was heard so far. `log`: where it is written; `started`: told of each script."""

    log: IO[bytes]
    started: Callable[[str], None]
    scripts: list[ScriptTime] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    heard: float = field(default_factory=time.monotonic)  # when something was said last
    _began: float = field(default_factory=time.monotonic)
    _rest: bytes = b""
    _written: int = 0

    def hear(self, data: bytes) -> None:
        """The next bytes; none of them mean the end."""
        self.heard = time.monotonic()
        self._write(data)
        *lines, rest = (self._rest + data).split(b"\n")
        for raw in lines:
            self._line(raw)
        self._rest = rest[-LONGEST_LINE:]
        if self._rest and not data:
            self._line(self._rest)

    def _write(self, data: bytes) -> None:
        if self._written < LARGEST_LOG:
            self.log.write(data)
            self._written += len(data)
            if self._written >= LARGEST_LOG:
                self.log.write(b"\nbaremetal: this log ends here: more than %d MiB were said\n" % (LARGEST_LOG >> 20))
            self.log.flush()

    def _line(self, raw: bytes) -> None:
        line = raw.decode(errors="replace").rstrip("\r")
        self.tail.append(lastwords.printable(line.rpartition("\r")[2]))  # a progress bar writes over itself
        if name := lastwords.script_started(line):
            self._began = time.monotonic()
            self.scripts.append(ScriptTime(name))
            self.started(name)
        elif _DONE.match(line) and self.scripts:
            self.scripts[-1].seconds = time.monotonic() - self._began
            self.scripts[-1].done = True
