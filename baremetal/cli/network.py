"""`baremetal network …`: provisioning networks, leases, machines nobody knows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.words import Json
from baremetal.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="Provisioning networks, leases, and machines that no node has.")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """The networks that the server serves."""
    found = Client.default().get("/api/networks")
    if as_json:
        render.json_out(found)
        return
    columns = ["name", "interface", "cidr", "server", "mode", "proxy"]
    render.table(found["networks"], columns, empty="none; add a [[network]] table to the configuration")


@app.command()
def show(name: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
    """One network."""
    found: list[dict[str, Any]] = Client.default().get("/api/networks")["networks"]
    for network in found:
        if network["name"] == name:
            render.json_out(network) if as_json else render.fields(network)
            return
    raise NotFound(f"there is no network {name!r}", fix="baremetal network list")


@app.command()
def leases(as_json: Json = False) -> None:
    """Addresses given out."""
    found = Client.default().get("/api/leases")
    if as_json:
        render.json_out(found)
        return
    rows = [lease | {"expires": render.clock(lease["expires"])} for lease in found["leases"]]
    render.table(rows, ["address", "mac", "node", "network", "expires"], empty="no leases")


@app.command()
def unknown(as_json: Json = False) -> None:
    """Machines that asked for a boot and belong to no node."""
    found = Client.default().get("/api/unknown")
    if as_json:
        render.json_out(found)
        return
    rows = [m | {"last": f"{render.ago(m['last'])} ago"} for m in found["machines"]]
    render.table(rows, ["mac", "uuid", "arch", "loader", "network", "count", "last"], empty="none seen")
