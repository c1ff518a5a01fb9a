"""`baremetal audit`: who asked for what, from where, with which result."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.words import Json, complete_nodes

app = typer.Typer()


@app.command()
def audit(
    node: Annotated[str, typer.Option("--node", "-n", help="Only this node.", autocompletion=complete_nodes)] = "",
    who: Annotated[str, typer.Option("--who", help="Only what this user or token asked.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    verbs: Annotated[bool, typer.Option("--verbs", help="Verbs with their arguments, from the nodes' events.")] = False,
    security: Annotated[
        bool, typer.Option("--security", help="Replayed nonces, wrong agent tokens, rival servers instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Every request that changed something or was refused: when, who, from where, what, which node, result.

    The log is append-only (state_dir/logs/audit.jsonl); bodies are never in it.
    """
    if verbs or security:
        _events(node, limit, "security" if security else "verb", as_json)
        return
    doc = Client.default().get("/api/audit", node=node, who=who, limit=limit)
    if as_json:
        render.json_out(doc)
        return
    rows = [
        {**entry, "time": render.clock(entry["time"]), "asked": f"{entry['method']} {entry['path']}"}
        for entry in doc["entries"]
    ]
    render.table(rows, ["time", "who", "from", "asked", "node", "status", "ms"], empty="nothing yet")


def _events(node: str, limit: int, kind: str, as_json: bool) -> None:
    doc = Client.default().get("/api/events", node=node, kind=kind, limit=limit, newest=1)
    if as_json:
        render.json_out(doc)
        return
    rows: list[dict[str, Any]] = []
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
