"""What a person sees while the demo runs: the acts so far and the live board, or plain lines without a terminal.

Everything goes to stderr, so that --json leaves one clean document on stdout.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from baremetal.cli import board

if TYPE_CHECKING:
    from rich.console import Group

Nodes = Callable[[], Sequence[Mapping[str, Any]]]
LOOK_S = 0.5


class View(Protocol):
    """Shows acts as they begin and end; `nodes` is asked for the rack's rows while it is open."""

    def __enter__(self) -> View: ...
    def __exit__(self, *exc: object) -> None: ...
    def begin(self, says: str, command: str = "") -> None: ...
    def end(self, note: str = "") -> None: ...
    def say(self, text: str) -> None: ...


def view(nodes: Nodes) -> View:
    """A live board on a terminal, lines elsewhere."""
    return LiveView(nodes) if sys.stderr.isatty() else LineView(nodes)


class _Acts:
    """The acts so far with their seconds."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float, str]] = []
        self.now: tuple[str, str, float] | None = None

    def begin(self, says: str, command: str) -> None:
        self.now = (says, command, time.monotonic())

    def end(self, note: str) -> tuple[str, float, str] | None:
        if self.now is None:
            return None
        says, _, start = self.now
        row = (says, time.monotonic() - start, note)
        self.done.append(row)
        self.now = None
        return row


class _Looker(threading.Thread):
    """Asks for the rows twice a second and hands them on; a server that is away is no trouble."""

    def __init__(self, nodes: Nodes, show: Callable[[Sequence[Mapping[str, Any]]], None]) -> None:
        super().__init__(daemon=True, name="demo-view")
        self._nodes, self._show, self._halt = nodes, show, threading.Event()

    def run(self) -> None:
        while not self._halt.wait(LOOK_S):
            self._show(self._nodes())

    def halt(self) -> None:
        self._halt.set()
        self.join(timeout=5)


class LiveView:
    """The terminal: finished acts above, the board below, redrawn in place."""

    def __init__(self, nodes: Nodes) -> None:
        from rich.console import Console
        from rich.live import Live

        self._acts = _Acts()
        self._rows: Sequence[Mapping[str, Any]] = ()
        self._live = Live(console=Console(stderr=True), auto_refresh=False, get_renderable=self._draw)
        self._looker = _Looker(nodes, self._seen)

    def __enter__(self) -> View:
        self._live.start()
        self._looker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._looker.halt()
        self._live.refresh()
        self._live.stop()

    def begin(self, says: str, command: str = "") -> None:
        self._acts.begin(says, command)
        self._live.refresh()

    def end(self, note: str = "") -> None:
        self._acts.end(note)
        self._live.refresh()

    def say(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)

    def _seen(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows or self._rows
        self._live.refresh()

    def _draw(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [
            Text(f"  ✓ {says}  {took:.1f} s  {note}", style="dim") for says, took, note in self._acts.done
        ]
        if self._acts.now:
            says, command, start = self._acts.now
            parts.append(Text(f"  ▸ {says}  {time.monotonic() - start:.0f} s", style="bold"))
            if command:
                parts.append(Text(f"    $ {command}", style="cyan"))
        if self._rows:
            parts.append(board.board(self._rows, time.time()))
        return Group(*parts)


class LineView:
    """No terminal: one line an act and one line a change of a node's state."""

    def __init__(self, nodes: Nodes) -> None:
        self._acts = _Acts()
        self._states: dict[str, str] = {}
        self._looker = _Looker(nodes, self._seen)

    def __enter__(self) -> View:
        self._looker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._looker.halt()

    def begin(self, says: str, command: str = "") -> None:
        self._acts.begin(says, command)
        self.say(f"▸ {says}" + (f"   $ {command}" if command else ""))

    def end(self, note: str = "") -> None:
        row = self._acts.end(note)
        if row:
            self.say(f"✓ {row[0]}  {row[1]:.1f} s  {row[2]}".rstrip())

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _seen(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for node in rows:
            text = board.state_text(node)
            if node.get("fault"):
                text += f": {board.doing(node)}"
            elif node.get("step"):
                text += f" ({node['step']})"
            if self._states.get(node["name"]) != text:
                self._states[node["name"]] = text
                self.say(f"  {node['name']}: {text}")
