"""Progress of builds and of images taken in."""

from __future__ import annotations

import os
from typing import Any

from baremetal.cli import render


class Bar:
    """Progress on stderr: a bar on a terminal, a line a step elsewhere."""

    def __init__(self, title: str, *, plain: bool = False) -> None:
        self.title = title
        self.plain = plain  # a shell may need the terminal
        self.last = ""
        self.progress: Any = None
        self.task: Any = None

    def __enter__(self) -> Bar:
        import sys

        if not self.plain and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[at]}"),
            )
            self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.progress.add_task(self.title, total=1.0, at="")
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def step(self, step: str, script: str, fraction: float) -> None:
        """From a build."""
        if self.progress:
            self.progress.update(self.task, completed=fraction, at=f"{step} {script}")
        elif step != self.last:
            render.note(f"{self.title}: {step}")
        self.last = step

    def bytes(self, done: int, total: int) -> None:
        """From the store."""
        if self.progress:
            at = f"{render.size(done)} of {render.size(total)}"
            self.progress.update(self.task, completed=done / max(1, total), at=at)
