"""`baremetal doctor`: can this machine provision? Each finding with its reason and its fix."""

from __future__ import annotations

from typing import Annotated

import typer

from baremetal.errors import EXIT_MACHINE

app = typer.Typer()


@app.command()
def doctor(
    config: Annotated[str, typer.Option("--config", "-c", help="Configuration file.")] = "",
    lab: Annotated[bool, typer.Option("--lab", help="Also what the virtual rack and image builds need.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Send packets: look for a rival DHCP server.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", "--yaml", help="One document on stdout, as JSON or as YAML.")
    ] = False,
) -> None:
    """Check configuration, rights, ports, networks, loaders, keys, disk and clock. Changes nothing.

    Exit code 8 when something would stop the server; warnings do not count.
    """
    from baremetal.cli import render
    from baremetal.cli.settings import config_path
    from baremetal.serve import doctor as checks

    found = checks.examine(config_path(config) if config else None, lab=lab, probe=probe)
    if as_json:
        render.json_out({"checks": [finding.__dict__ for finding in found], "ok": checks.well(found)})
    else:
        render.table([finding.__dict__ for finding in found], ["verdict", "check", "reason", "fix"])
    if not checks.well(found):
        raise typer.Exit(EXIT_MACHINE)
