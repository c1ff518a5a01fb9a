"""Commands that list: everywhere the same options for columns, order and form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.joined import Option, joined
from baremetal.cli.words import Json
from baremetal.errors import UsageError

Doc = Mapping[str, Any]
Columns = Annotated[str, typer.Option("--columns", help="Columns, comma-separated; any field of --json.")]
Sort = Annotated[str, typer.Option("--sort", help="Fields to sort by, comma-separated; -FIELD: the other way round.")]
NoHeader = Annotated[bool, typer.Option("--no-header", help="Rows only, for scripts.")]
OPTIONS: tuple[Option, ...] = (
    ("columns", Columns, ""),
    ("sort", Sort, ""),
    ("no_header", NoHeader, False),
    ("as_json", Json, False),
)


def listing(function: Callable[..., None]) -> Callable[..., None]:
    """`function(listed, its own options…)` as a command that takes OPTIONS beside them."""
    return joined(function, Listed, after=OPTIONS)


@dataclass(frozen=True)
class Listed:
    """How a list is wanted. An unknown field is an error that names the known ones."""

    columns: str = ""
    sort: str = ""
    no_header: bool = False
    as_json: bool = False

    def show(
        self,
        document: Doc,
        key: str,
        columns: Sequence[str],
        *,
        row: Callable[[Doc], Doc] = dict,
        empty: str = "none",
    ) -> None:
        """The documents below `key`, as a table of `columns` or as JSON; `row`: what a person sees of one.

        They are sorted by what they hold, not by how it looks (sizes and times as numbers).
        """
        docs = list(document[key])
        shown = [{**doc, **row(doc)} for doc in docs]
        chosen, order = _words(self.columns), _words(self.sort)
        if shown:
            _known([*chosen, *(name.lstrip("-") for name in order)], set(shown[0]) | set(columns))
        pairs = list(zip(docs, shown, strict=True))
        for name in reversed(order):
            field = name.lstrip("-")
            pairs.sort(key=lambda pair: _rank(pair, field), reverse=name.startswith("-"))
        if self.as_json:
            picked = [_picked(doc, seen, chosen) if chosen else doc for doc, seen in pairs]
            render.json_out({**document, key: picked})
            return
        rows = (seen for _, seen in pairs)
        render.table(rows, chosen or columns, empty=empty, header=not self.no_header)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _picked(doc: Doc, seen: Doc, names: Sequence[str]) -> dict[str, Any]:
    return {name: doc[name] if name in doc else seen.get(name) for name in names}


def _known(names: Sequence[str], fields: set[str]) -> None:
    from baremetal.config import nearest

    if unknown := [name for name in names if name not in fields]:
        near = nearest(unknown[0], fields)
        raise UsageError(f"no column {', '.join(unknown)}{near}", detail=f"columns: {', '.join(sorted(fields))}")


def _rank(pair: tuple[Doc, Doc], field: str) -> tuple[int, Any]:
    """Numbers by size, texts as people count (u2 before u10), what is missing last."""
    doc, seen = pair
    value = doc[field] if field in doc else seen.get(field)
    if value is None or value == "":
        return (2, ())
    if isinstance(value, bool | int | float):
        return (0, value)
    text = render.text_of(value).lower()
    return (1, [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.findall(r"\d+|\D+", text)])
