"""`baremetal watch`: the rack live, one line a node."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from baremetal.cli.client import Client
from baremetal.cli.words import Where
from baremetal.errors import Unreachable

app = typer.Typer()


@app.command()
def watch(
    where: Where = "",
    every: Annotated[float, typer.Option(help="Seconds between looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
) -> None:
    """The whole rack, live; Ctrl-C ends it. Survives a restart of the server."""
    from rich.console import Console
    from rich.live import Live

    from baremetal.cli.board import board

    client = Client.default()

    def look() -> object:
        nodes = client.get("/api/nodes", where=where, limit=1000)["nodes"]
        return board(nodes, time.time(), title=f"{len(nodes)} nodes")

    if once:
        Console().print(look())
        return
    with Live(look(), refresh_per_second=4, screen=False) as live:  # type: ignore[arg-type]
        while True:
            time.sleep(max(0.2, every))
            try:
                live.update(look())  # type: ignore[arg-type]
            except Unreachable as exc:
                live.update(f"{exc.brief}; waiting for it")
