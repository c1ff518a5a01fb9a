"""`baremetal settings`: the table of settings, as it is in force."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


def config_path(given: str = "") -> Path:
    """The configuration file: given, from the environment, or the default."""
    from baremetal.config import DEFAULT_FILE, ENV_FILE

    return Path(given or os.environ.get(ENV_FILE) or DEFAULT_FILE)


@app.command()
def settings(
    as_json: Annotated[
        bool, typer.Option("--json", "--yaml", help="One document on stdout, as JSON or as YAML.")
    ] = False,
) -> None:
    """Every setting: the value in force, its default, what it means."""
    import dataclasses

    from baremetal.cli import render
    from baremetal.config import SETTINGS, Settings

    now = Settings.load()
    rows = [
        {
            "setting": s.name,
            "value": str(getattr(now, s.name)),
            "default": str(s.default),
            "unit": s.unit,
            "environment": s.env,
            "meaning": s.help,
        }
        for s in SETTINGS.values()
    ]
    if as_json:
        render.json_out({"settings": rows, "networks": [dataclasses.asdict(n) for n in now.networks]})
        return
    for row in rows:
        row["value"] += "" if row["value"] == row["default"] else " *"
    render.table(rows, ["setting", "value", "meaning"])
    typer.echo(f"(* not the default; {len(now.networks)} networks: baremetal network list)")
