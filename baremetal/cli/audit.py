"""`baremetal audit`: who asked for what."""

from __future__ import annotations

from typing import Annotated

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.words import Json, complete_nodes

app = typer.Typer()


@app.command()
def audit(
    node: Annotated[str, typer.Option("--node", "-n", help="Only this node.", autocompletion=complete_nodes)] = "",
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    security: Annotated[
        bool, typer.Option("--security", help="Refused tokens, replayed nonces, rival servers instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What operators asked for: when, who, what, of which node. Events are never changed, only pruned by age."""
    doc = Client.default().get("/api/events", node=node, kind="security" if security else "verb", limit=limit)
    if as_json:
        render.json_out(doc)
        return
    rows = []
    for event in doc["events"]:
        data = dict(event.get("data") or {})
        row = {
            "time": render.clock(event["time"]),
            "who": data.pop("by", data.pop("source", event.get("source", ""))),
            "what": event["stage"],
            "node": event.get("node") or "",
            "outcome": event.get("outcome", ""),
            "facts": render.text_of({k: v for k, v in data.items() if v not in (None, "", {}, [])}),
        }
        rows.append(row)
    render.table(rows, ["time", "who", "what", "node", "outcome", "facts"], empty="nothing yet")
