"""How answers look: tables for people, JSON for programs. Results go to stdout, progress to stderr.

rich is imported only to draw a table on a terminal; piped output is plain
columns, never cut.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from baremetal.cli import clean

Row = Mapping[str, Any]
_COLOURS = {
    "active": "green",
    "available": "green",
    "manageable": "green",
    "pass": "green",
    "ok": "green",
    "fail": "red",
    "failed": "red",
    "error": "red",
    "refused": "red",
}


def json_out(doc: Any) -> None:
    """One JSON document on stdout; YAML when --yaml was said."""
    if "--yaml" in sys.argv[1:]:
        import yaml

        plain = json.loads(json.dumps(doc, default=str))
        print(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), end="")
        return
    print(json.dumps(doc, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False, default=str))


def table(rows: Iterable[Row], columns: Sequence[str], *, empty: str = "", header: bool = True) -> None:
    """Rows of text. `empty` is said (on stderr) when there are none. Without `header` plain rows, for scripts."""
    lines = [[text_of(row.get(column)) for column in columns] for row in rows]
    if not lines:
        if empty:
            note(empty)
        return
    titles = [column.replace("_", " ").upper() for column in columns] if header else []
    if colour() and header:
        _rich(titles, lines)
    else:
        _plain(titles, lines)


def fields(doc: Row, order: Sequence[str] = ()) -> None:
    """One thing, a line a field."""
    names = [*order, *(k for k in doc if k not in order)] if order else list(doc)
    names = [name for name in names if name in doc]
    width = max((len(n) for n in names), default=0)
    for name in names:
        value = text_of(doc[name])
        if value != "":
            print(f"{name.replace('_', ' '):<{width}}  {value}")


def text_of(value: Any) -> str:
    """A value in a cell."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.1f}"
        case dict():
            return " ".join(_pair(str(k), v) for k, v in value.items() if v not in ("", None))
        case list() | tuple():
            return ", ".join(text_of(v) for v in value)
    return clean.text(str(value))


def _pair(key: str, value: Any) -> str:
    """key=value; of a mapping below it key.sub=value."""
    if isinstance(value, dict):
        return " ".join(_pair(f"{key}.{sub}", below) for sub, below in value.items())
    return f"{key}={text_of(value)}"


def note(text: str) -> None:
    """Something for a person beside the result: on stderr."""
    print(clean.text(text), file=sys.stderr, flush=True)


def colour() -> bool:
    """Colour and boxes only on a terminal, and never under NO_COLOR (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def ago(then: float | None, now: float | None = None) -> str:
    """ "12 s", "5 min", "3 h", "9 d" since `then` (Unix seconds)."""
    if not then:
        return ""
    seconds = max(0.0, (time.time() if now is None else now) - then)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock(then: float | None) -> str:
    """Local time of day, with the date when it is another day."""
    if not then:
        return ""
    at, today = time.localtime(then), time.localtime()
    same = at[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M:%S", at)


def size(count: float | None) -> str:
    """Bytes for people: 1.5 GiB."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _plain(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    drawn = [row for row in (titles, *lines) if row]
    widths = [max(map(len, column)) for column in zip(*drawn, strict=True)]
    for row in drawn:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        drawn.add_column(title, overflow="fold")
    for row in lines:
        drawn.add_row(*(Text(cell, style=_COLOURS.get(cell.partition(" ")[0], "")) for cell in row))
    Console(width=max(60, shutil.get_terminal_size().columns)).print(drawn)
