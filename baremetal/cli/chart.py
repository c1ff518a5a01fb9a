"""Draws a timeline: a line a stage, its seconds, and when it was, as a bar. Pure: takes stages, gives lines.

On a terminal every line fits its width; details that do not fit are cut with
an ellipsis (--json has them whole). Piped output is never cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAME, BAR = 30, 24  # columns at 80; a wider terminal gives the rest to the details
POINT = "▏"
EIGHTHS = " ▏▎▍▌▋▊▉█"
COLOURS = {"failed": 31, "refused": 31, "retry": 33, "running": 36, "now": 36, "drift": 33, "left": 2}
GOOD, DIM, BOLD = 32, 2, 1
STATES = ("state",)


def lines(
    stages: Sequence[Mapping[str, Any]], total_s: float | None, now: float, *, columns: int = 0, colour: bool = False
) -> list[str]:
    """`columns` 0: no limit."""
    if not stages:
        return []
    begin = min(s["start"] for s in stages)
    span = max(max(s.get("end") or now for s in stages) - begin, 0.001)
    name_width = min(NAME, max(len(_name(s)) for s in stages))
    found = [_line(s, begin, span, now, name_width, columns, colour) for s in stages]
    if total_s is not None:
        found.append(f"{'total':<{name_width}} {_seconds(total_s)}")
    return found


def _name(stage: Mapping[str, Any]) -> str:
    return str(stage["stage"]) if stage.get("kind") in STATES else f"  {stage['stage']}"


def _line(
    stage: Mapping[str, Any], begin: float, span: float, now: float, width: int, columns: int, colour: bool
) -> str:
    outcome = str(stage.get("outcome") or "ok")
    name = _fit(_name(stage), width)
    took = _seconds(stage.get("seconds"), running=outcome in ("running", "now"), at=now - stage["start"])
    bar = _bar(stage["start"] - begin, (stage.get("end") or now) - begin, span)
    told = " ".join(word for word in ("" if outcome == "ok" else outcome, str(stage.get("detail") or "")) if word)
    if columns:
        told = _fit(told, max(0, columns - width - 1 - 10 - 1 - BAR - 1))
    if not colour:
        return f"{name:<{width}} {took} {bar:<{BAR}} {told}".rstrip()
    shade = COLOURS.get(outcome, GOOD)
    name = f"\x1b[{BOLD}m{name:<{width}}\x1b[0m" if stage.get("kind") in STATES else f"{name:<{width}}"
    told = f"\x1b[{shade if outcome != 'ok' else DIM}m{told}\x1b[0m" if told else ""
    return f"{name} {took} \x1b[{shade}m{bar:<{BAR}}\x1b[0m {told}".rstrip()


def _seconds(seconds: float | None, *, running: bool = False, at: float = 0.0) -> str:
    """Ten columns; what still runs counts up."""
    if seconds is None or running:
        return f"{at:7.1f} s…"
    return f"{seconds:7.1f} s " if seconds else " " * 10


def _bar(first: float, last: float, span: float) -> str:
    """An eighth of a column is the smallest step."""
    start = min(int(first / span * BAR), BAR - 1)
    eighths = round((last - first) / span * BAR * 8)
    if eighths <= 1:
        return " " * start + POINT
    whole, part = divmod(min(eighths, (BAR - start) * 8), 8)
    return " " * start + "█" * whole + (EIGHTHS[part] if part else "")


def _fit(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    return text[: width - 1] + "…" if width > 1 else ""
