"""`baremetal allocation …`: hold a node by what it is; and why no node was chosen."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json, complete_allocations, complete_nodes, flat_pairs
from baremetal.errors import EXIT_FAILED

app = typer.Typer(no_args_is_help=True, help="Hold a node by class, traits and labels; and why no node was chosen.")
Ref = Annotated[str, typer.Argument(metavar="ALLOCATION", help="Name or id.", autocompletion=complete_allocations)]
COLUMNS = ["name", "state", "node", "resource_class", "traits", "labels"]


@app.command()
def create(
    resource_class: Annotated[str, typer.Argument(metavar="CLASS", help="Resource class of the node.")],
    name: Annotated[str, typer.Option(help="Name of the allocation.")] = "",
    trait: Annotated[list[str] | None, typer.Option("--trait", help="The node must have it; may repeat.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="key=value of the node; may repeat.")] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option("--candidate", help="Only these nodes; may repeat.", autocompletion=complete_nodes),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold an available node. When there is none: each candidate with the rule that excluded it, and exit code 1."""
    labels = {k: str(v) for k, v in flat_pairs(label, "--label").items()}
    body = {"name": name, "resource_class": resource_class, "traits": trait, "labels": labels, "candidates": candidate}
    doc = Client.default().post("/api/allocations", {k: v for k, v in body.items() if v})
    if as_json:
        render.json_out(doc)
    elif doc.get("node"):
        print(doc["node"])
    else:
        render.table(doc.get("excluded") or [], ["node", "rule"], empty="there is no candidate at all")
        kept = doc.get("name") or doc["id"]
        render.note(f"no node fits; the wish is kept as an error: baremetal allocation delete {kept}")
    if not doc.get("node"):
        raise typer.Exit(EXIT_FAILED)


@app.command("list")
@listing
def list_(listed: Listed) -> None:
    """All allocations, oldest first."""
    empty = "no allocations; make one: baremetal allocation create CLASS"
    rows = [{**(row.get("asked") or {}), **row} for row in Client.default().get("/api/allocations")["allocations"]]
    listed.show({"allocations": rows}, "allocations", COLUMNS, empty=empty)


@app.command()
def show(ref: Ref, as_json: Json = False) -> None:
    """One allocation."""
    doc: dict[str, Any] = Client.default().get(f"/api/allocations/{quote(ref, safe='')}")
    render.json_out(doc) if as_json else render.fields(doc)


@app.command()
def delete(ref: Ref, as_json: Json = False) -> None:
    """Let the node go; the node itself is not touched."""
    Client.default().delete(f"/api/allocations/{quote(ref, safe='')}")
    render.json_out({"deleted": ref}) if as_json else render.note(f"{ref}: deleted")
