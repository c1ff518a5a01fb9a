"""`baremetal serve`: the server, in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from baremetal.cli.words import one_of

app = typer.Typer()


@app.command()
def serve(
    config: Annotated[str, typer.Option("--config", "-c", help="Configuration file.")] = "",
    state_dir: Annotated[Path | None, typer.Option(help="Instead of the configured state_dir.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Instead of the configured run_dir.")] = None,
    log_level: Annotated[
        str,
        typer.Option(help="debug, info, warning or error.", autocompletion=one_of("debug", "info", "warning", "error")),
    ] = "",
) -> None:
    """Run the server in the foreground: DHCP, TFTP, HTTP(S) for nodes, API and workflows for you.

    Starts two processes, starts them again when they die, stops them on SIGTERM or Ctrl-C.
    Exit codes: 0 stopped as asked, 2 wrong configuration, 8 this machine lacks something (it says what).
    """
    from baremetal.config import ENV_FILE, Settings

    env = dict(os.environ)
    if config:
        env[ENV_FILE] = config
    flags = {"state_dir": state_dir, "run_dir": run_dir, "log_level": log_level or None}
    env |= {f"BAREMETAL_{name.upper()}": str(value) for name, value in flags.items() if value is not None}
    Settings.load(env=env)  # mistakes are told here, by the command that was typed
    # The supervisor lives for months: without the command line's modules it needs 5 MiB less.
    os.execve(sys.executable, [sys.executable, "-m", "baremetal.serve.supervisor"], env)  # noqa: S606
