"""`baremetal element`: list, show, check."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json
from baremetal.errors import EXIT_FAILED

app = typer.Typer(no_args_is_help=True, help="Image elements: list, show, check.")
ABOUT_WIDTH = 72  # characters of a description in a list; `show` has all of it
Paths = Annotated[
    list[Path] | None, typer.Option("--elements-path", "-E", help="Where elements are looked for first; repeat it.")
]


def _complete(incomplete: str) -> list[str]:
    from baremetal.images import elements

    return [name for name in sorted(elements.available(_path(None))) if name.startswith(incomplete)]


@app.command("list")
@listing
def list_elements(listed: Listed, elements_path: Paths = None) -> None:
    """Every element on the path, and where it comes from."""
    from baremetal.images import elements, lint

    rows = [
        {"element": name, "provides": elements.read_names(path / "element-provides"), "about": lint.about(path)}
        | {"path": str(path)}
        for name, path in sorted(elements.available(_path(elements_path)).items())
    ]

    def row(doc: Mapping[str, Any]) -> dict[str, Any]:
        return {"about": textwrap.shorten(doc["about"], ABOUT_WIDTH, placeholder=" …")}

    columns = ["element", "about", "provides"]
    listed.show({"elements": rows}, "elements", columns, row=row, empty="no elements")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ELEMENT", autocompletion=_complete)],
    elements_path: Paths = None,
    as_json: Json = False,
) -> None:
    """One element: what it needs, provides, installs and runs."""
    from baremetal.images import elements, lint

    found = elements.available(_path(elements_path))
    if name not in found:
        elements.resolve([name], _path(elements_path))  # raises, with the nearest name
    doc = lint.describe(name, found[name], found)
    if as_json:
        render.json_out(doc)
    else:
        render.fields(doc)


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[ELEMENT]...", help="Default: all of ours.")] = None,
    elements_path: Paths = None,
    as_json: Json = False,
) -> None:
    """Naming, permissions, dependencies, package lists and shellcheck of elements."""
    from baremetal.images import elements, lint
    from baremetal.paths import share_dir

    path = _path(elements_path)
    found = elements.available(path)
    mine = [*(elements_path or []), share_dir("elements")]
    chosen = names or sorted(n for n, p in found.items() if any(p.is_relative_to(m.resolve()) for m in mine))
    problems = [problem for name in chosen for problem in lint.check(name, found)]
    if as_json:
        render.json_out({"checked": chosen, "problems": [vars(problem) for problem in problems]})
    else:
        for problem in problems:
            print(problem)
        render.note(f"elements: {len(chosen)}, problems: {len(problems)}")
    if problems:
        raise typer.Exit(EXIT_FAILED)


def _path(extra: list[Path] | None) -> list[Path]:
    from baremetal.images import elements

    return elements.search_path(elements.directories(extra or []))
