"""`metadata status`, `diff` and `show --explain`: who has what, and where a value comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import Json, Where, complete_nodes
from baremetal.errors import EXIT_FAILED

LAYERS = ("defaults", "site", "role", "node")


def explain(doc: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows: each value, its layer, and what it hides in lower ones."""
    from baremetal.model.metadata import explain as origins

    layers = [(name, doc["layers"].get(name) or {}) for name in LAYERS]
    return [
        {
            "path": origin.path,
            "value": origin.value,
            "layer": origin.layer,
            "hides": [f"{layer}: {render.text_of(value)}" for layer, value in origin.hides],
        }
        for origin in origins(layers)
    ]


def diff(
    left: Annotated[str, typer.Argument(metavar="NODE", autocompletion=complete_nodes)],
    right: Annotated[str, typer.Argument(metavar="OTHER", autocompletion=complete_nodes)],
    as_json: Json = False,
) -> None:
    """What two nodes are configured with differently."""
    from baremetal.model.metadata import difference

    client = Client.default()
    one, two = (client.get(node_path(n, "metadata"))["document"]["values"] for n in (left, right))
    rows = [{"path": d.path, left: d.old, right: d.new} for d in difference(one, two)]
    if as_json:
        render.json_out({"differences": rows})
        return
    render.table(rows, ["path", left, right], empty="no difference")


def status(where: Where = "", as_json: Json = False) -> None:
    """Which generation each deployed node should have, has, and how the last try went.

    Exit code 1 when a node has failed.
    """
    from baremetal.model.metadata import Applied, summary

    nodes = Client.default().get("/api/nodes", where=where, limit=10_000)["nodes"]
    rows = []
    for node in nodes:
        config = node.get("config") or {}
        if node["state"] != "active" and not config.get("outcome"):
            continue
        rows.append(
            {
                "node": node["name"],
                "wanted": config.get("wanted_generation") or 0,
                "applied": config.get("generation") or 0,
                "outcome": config.get("outcome") or "",
                "when": f"{render.ago(config['at'])} ago" if config.get("at") else "",
                "why": ((config.get("fault") or {}).get("brief")) or "",
            }
        )
    told = summary([Applied(r["node"], r["wanted"], r["applied"], r["outcome"], r["why"]) for r in rows])
    if as_json:
        render.json_out({"nodes": rows, "summary": told})
    else:
        render.table(rows, ["node", "wanted", "applied", "outcome", "when", "why"])
        render.note(told)
    if any(row["outcome"] == "failed" for row in rows):
        raise typer.Exit(EXIT_FAILED)


def register(app: typer.Typer) -> None:
    """Add the commands to `metadata`."""
    app.command()(diff)
    app.command()(status)
