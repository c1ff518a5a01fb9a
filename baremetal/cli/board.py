"""The rack at a glance: one line a node, with what it does now and how far it is.

Turns node documents of the API into a table; opens nothing. Used live by
`baremetal lab demo` and `baremetal watch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_PHASE_COLOUR = {"stable": "green", "working": "cyan", "waiting": "cyan", "held": "yellow", "failed": "red"}
_BAR_WIDTH = 18


def board(nodes: Iterable[Mapping[str, Any]], now: float, *, title: str = "") -> Table:
    """A table of `nodes` (documents of GET /api/nodes); `now` is Unix seconds."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("NODE", no_wrap=True)
    table.add_column("FIRMWARE", no_wrap=True)
    table.add_column("POWER", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("NOW", ratio=1, overflow="ellipsis", no_wrap=True)
    shown = list(nodes)
    bars = any(progress_bar(node.get("progress")) for node in shown)
    if bars:  # only then: at 80 columns it takes a third of what NOW may say
        table.add_column("PROGRESS", no_wrap=True, min_width=_BAR_WIDTH + 5)
    table.add_column("SINCE", justify="right", no_wrap=True)
    for node in shown:
        table.add_row(*_row(node, now, bars))
    return table


def _row(node: Mapping[str, Any], now: float, bars: bool) -> list[RenderableType]:
    from rich.text import Text

    colour = "red" if node.get("fault") else _PHASE_COLOUR.get(str(node.get("phase")), "")
    return [
        Text(str(node["name"]), style="bold"),
        _or_dash(node.get("firmware")),
        _or_dash(node.get("power")),
        Text(state_text(node), style=colour),
        Text(doing(node), style="red" if node.get("fault") else ""),
        *([Text(progress_bar(node.get("progress")), style="cyan")] if bars else []),
        since(node.get("state_since"), now),
    ]


def _or_dash(value: object) -> str:
    return "-" if value in (None, "", "unknown") else str(value)


def state_text(node: Mapping[str, Any]) -> str:
    """Ironic's state, and beside it whether a deployed node took its configuration."""
    text = str(node.get("ironic_state") or node.get("state") or "?")
    config = node.get("config") or {}
    if text == "active" and config.get("outcome") in ("applied", "unchanged"):
        return f"active, configured (gen {config.get('generation')})"
    return text


def doing(node: Mapping[str, Any]) -> str:
    """What the node does or waits for now, in a few words; a fault comes first, unless the node goes on."""
    fault = node.get("fault")
    wait = node.get("wait")
    if fault and not (wait or node.get("phase") == "working"):
        return str(fault.get("brief"))
    step = node.get("step")
    if wait:
        because = str(wait.get("because"))
        return f"{step}: {because}" if step else because
    return str(step or "")


def progress_bar(progress: Mapping[str, Any] | None) -> str:
    """`######------------  37%`, or nothing when there is no progress to show."""
    if not progress or not progress.get("total"):
        return ""
    share = min(1.0, max(0.0, float(progress.get("done", 0)) / float(progress["total"])))
    full = round(share * _BAR_WIDTH)
    return f"{'━' * full}{'╌' * (_BAR_WIDTH - full)} {share:4.0%}"


def since(start: float | None, now: float) -> str:
    """Seconds, minutes or hours since `start` (Unix seconds), short."""
    if not start:
        return "-"
    seconds = max(0, int(now - start))
    if seconds < 100:
        return f"{seconds}s"
    if seconds < 6000:
        return f"{seconds // 60}m{seconds % 60:02d}"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}"
