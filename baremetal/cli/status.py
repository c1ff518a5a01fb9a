"""`baremetal status`: is the server well?"""

from __future__ import annotations

from typing import Any

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
            "engine": _engine(doc.get("engine") or {}),
            "bmc": doc.get("bmc"),
            "database": _database(doc.get("db") or {}),
        }
        render.fields(rows)
    if not boot.get("connected"):
        raise typer.Exit(EXIT_FAILED)


def _engine(doc: dict[str, Any]) -> str:
    """How busy the passes are, and how late they come."""
    late = doc.get("late_p95_ms")
    words = [f"{doc.get('passes', 0)} passes, {doc.get('running', 0)} running, {doc.get('due', 0)} due"]
    words += [f"95 % at most {late:.0f} ms late"] if late is not None else []
    words += [f"{doc['crashes']} crashed: see the log"] if doc.get("crashes") else []
    return ", ".join(words)


def _database(doc: dict[str, Any]) -> str:
    where = str(doc.get("path") or doc.get("url") or "")
    more = {k: v for k, v in doc.items() if k not in ("path", "url", "size")}
    size = f" ({render.size(doc['size'])})" if doc.get("size") else ""
    return f"{where}{size} {render.text_of(more)}".strip()
