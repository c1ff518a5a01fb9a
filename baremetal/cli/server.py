"""`baremetal server`: the servers that share the site's database."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json
from baremetal.errors import EXIT_FAILED

app = typer.Typer(no_args_is_help=True, help="Servers of the site: who lives, who drives which node.")


@app.callback()
def _servers() -> None:
    """Servers of the site: who lives, who drives which node."""


@app.command("list")
@listing
def list_servers(
    listed: Listed,
    nodes: Annotated[
        bool, typer.Option("--nodes", help="Every node under way, with the server that drives it.")
    ] = False,
) -> None:
    """Servers that live or ended within the hour. HOLDS: what only one does (leader, ranges of addresses)."""
    doc = Client.default().get("/api/servers" + ("?nodes=1" if nodes else ""))
    if not doc["shared"] and not listed.as_json:
        render.note("one server, with a database of its own (SQLite): docs/how-to/several-servers.md has more of them")
        return
    if nodes and not listed.as_json:
        rows = [_driven(server, node) for server in doc["servers"] for node in server["nodes"]]
        listed.show({"nodes": rows}, "nodes", ["node", "state", "server", "for"], empty="no node is under way")
        return
    columns = ["name", "state", "since", "version", "heard", "drives", "holds", "clock", "host"]
    listed.show(doc, "servers", columns, row=lambda server: _row(dict(server), doc["this"]))
    for server in doc["servers"] if not listed.as_json else ():
        if away := server.get("away"):
            render.note(_outage(server["name"], away))


@app.command()
def check(as_json: Json = False) -> None:
    """Is the site ready for an upgrade, one server after the other? Exit code 1 when something is not."""
    doc = Client.default().get("/api/servers/check")
    if as_json:
        render.json_out(doc)
    else:
        rows = [
            {**one, "verdict": "ok" if one["ok"] else "look", "do": "" if one["ok"] else one["fix"]}
            for one in doc["checks"]
        ]
        render.table(rows, ["name", "verdict", "seen", "do"])
    if not doc["ok"]:
        raise typer.Exit(EXIT_FAILED)


def _row(server: dict[str, Any], this: str) -> dict[str, Any]:
    off = server["clock_off_s"]
    state = "alive" if server["alive"] else f"ended {render.ago(server['ended_at'])}"
    return {
        **server,
        "state": state + (" (answers you)" if server["instance"] == this else ""),
        "since": render.ago(server["since"]),
        "heard": f"{server['heard_s']:.0f} s ago" if server["alive"] else "",
        "clock": "right" if abs(off) < 1 else f"{off:+.0f} s",
    }


def _outage(name: str, away: dict[str, Any]) -> str:
    """When a server was without the database."""
    lasted = f" for {away['seconds']:.0f} s" if away.get("seconds") else ""
    why = f": {away['why']}" if away.get("why") else ""
    return f"{name} was without the database{lasted}, {render.ago(away['at'])} ago{why}"


def _driven(server: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    return {"node": node["name"], "state": node["state"], "server": server["name"], "for": render.ago(node["since"])}
