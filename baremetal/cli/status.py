"""`baremetal status`: is the server well?"""

from __future__ import annotations

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.words import Json
from baremetal.errors import EXIT_FAILED

app = typer.Typer()


@app.command()
def status(as_json: Json = False) -> None:
    """Nodes by state, processes, database. Exit code 1 when the boot plane is not connected."""
    doc = Client.default().get("/api/status")
    boot = (doc.get("planes") or {}).get("boot") or {}
    if as_json:
        render.json_out(doc)
    else:
        nodes = doc["nodes"]
        rows = {
            "version": doc["version"],
            "up": render.ago(doc["started_at"]),
            "nodes": nodes["by_state"] or "none",
            "faults": nodes["faults"],
            "boot_plane": f"connected, version {boot.get('version')}" if boot.get("connected") else "away",
            "engine": doc.get("engine"),
            "bmc": doc.get("bmc"),
            "database": doc.get("db"),
        }
        render.fields(rows)
    if not boot.get("connected"):
        raise typer.Exit(EXIT_FAILED)
