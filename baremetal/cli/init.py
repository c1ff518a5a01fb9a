"""`baremetal init`: configuration, keys, certificates, database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def init(
    config: Annotated[str, typer.Option("--config", "-c", help="Configuration file to use or to make.")] = "",
    interface: Annotated[str, typer.Option(help="Provisioning interface, for a new configuration file.")] = "",
    undercloud_conf: Annotated[
        Path | None, typer.Option(help="TripleO's undercloud.conf as source of answers.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", help="Keep all below this directory, for a new configuration file.")
    ] = None,
    address: Annotated[list[str] | None, typer.Option(help="Further names or addresses for the certificate.")] = None,
    systemd: Annotated[bool, typer.Option("--systemd", help="Install the systemd unit and its users.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", "--yaml", help="One document on stdout, as JSON or as YAML.")
    ] = False,
) -> None:
    """Make what `serve` needs. Safe to run again: what is there stays."""
    from baremetal.cli import render
    from baremetal.cli.settings import config_path
    from baremetal.config import DEFAULT_FILE, Settings
    from baremetal.errors import BaremetalError
    from baremetal.serve.init import initialise
    from baremetal.serve.initconf import install_units, write

    path = config_path(config)
    written = write(path, interface=interface, undercloud_conf=undercloud_conf, state_dir=state_dir)
    try:
        settings = Settings.load(path)
    except BaremetalError:
        if written:  # answers that contradict each other: the next try starts afresh
            path.unlink(missing_ok=True)
        raise
    report = initialise(settings, addresses=address or ())
    if written:
        report.made.insert(0, str(path))
    if systemd:
        report.made += install_units(path)
    doc = {"config": str(path), "made": report.made, "kept": report.kept}
    if as_json:
        render.json_out(doc)
        return
    for name in report.made:
        typer.echo(f"made  {name}")
    if report.kept:
        typer.echo(f"{len(report.kept)} files were there already")
    if not settings.networks:
        typer.echo(f"next: name your provisioning interface in {path} ([[network]]), then: baremetal doctor")
    else:
        named = "" if path == DEFAULT_FILE else f" --config {path}"
        start = f"baremetal{named} serve" if named else "systemctl start baremetal (or: baremetal serve)"
        typer.echo(f"next: baremetal{named} doctor, then: {start}")
