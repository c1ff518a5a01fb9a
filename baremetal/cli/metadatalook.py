"""`metadata status`, `diff` and `show --explain`: who has what, and where a value comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import Json, Where, complete_nodes
from baremetal.errors import EXIT_FAILED, NotFound

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
    right: Annotated[str, typer.Argument(metavar="[OTHER]", autocompletion=complete_nodes)] = "",
    old: Annotated[int | None, typer.Option("--from", help="An earlier generation (ten are kept).")] = None,
    new: Annotated[int | None, typer.Option("--to", help="Another generation than the present one.")] = None,
    as_json: Json = False,
) -> None:
    """What two nodes are configured with differently, or two generations of one node.

    With one node alone: what its last generation changed, or, when it has not
    applied the newest, what that will change. Exit code 1 when there is a difference.
    """
    from baremetal.model.metadata import difference

    client = Client.default()
    if right:
        one, two = (client.get(node_path(n, "metadata"))["document"]["values"] for n in (left, right))
        titles = (left, right)
    else:
        one, two, titles = _generations(client, left, old, new)
    rows = [{"path": d.path, titles[0]: d.old, titles[1]: d.new} for d in difference(one, two)]
    if as_json:
        render.json_out({"differences": rows})
    else:
        render.table(rows, ["path", *titles], empty="no difference")
    if rows:
        raise typer.Exit(EXIT_FAILED)


def _generations(client: Client, node: str, old: int | None, new: int | None) -> tuple[Any, Any, tuple[str, str]]:
    found = {
        g["generation"]: g["values"] for g in client.get(node_path(node, "metadata", "generations"))["generations"]
    }
    if not found:
        raise NotFound(f"{node} has no metadata document yet")
    last = max(found) if new is None else new
    applied = (client.get(node_path(node)).get("config") or {}).get("applied") or 0
    first = old if old is not None else applied if 0 < applied < last else last - 1
    if old is None and first == 0:
        found[0] = {}
    for wanted in (first, last):
        if wanted not in found:
            kept = ", ".join(map(str, sorted(found)))
            raise NotFound(f"generation {wanted} of {node} is not kept", fix=f"there are: {kept}")
    return found[first], found[last], (f"generation {first}", f"generation {last}")


def status(where: Where = "", as_json: Json = False) -> None:
    """Which generation each deployed node should have, has, and how the last try went.

    Exit code 1 when a node has failed.
    """
    from baremetal.model.metadata import Applied, summary

    rows = Client.default().get("/api/metadata/status", where=where)["nodes"]
    found = []
    for row in rows:
        place = row["where"].rpartition("/")[2]
        found.append(Applied(row["node"], row["wanted"], row["applied"], _outcome(row), row["why"], place))
    told = summary(found)
    if as_json:
        render.json_out({"nodes": rows, "summary": told})
    else:
        for row, node in zip(rows, found, strict=True):
            row["when"] = f"{render.ago(row['at'])} ago" if row["at"] else ""
            row["outcome"] = node.outcome or "applying"
            row["why"] = row["why"] or ", ".join(row["drift"][:3])
        render.table(rows, ["node", "wanted", "applied", "outcome", "when", "why"])
        render.note(told)
    if any(node.outcome == "failed" for node in found):
        raise typer.Exit(EXIT_FAILED)


def _outcome(row: dict[str, Any]) -> str:
    """The last report speaks of a generation; a newer one is being applied."""
    return row["outcome"] if row["tried"] >= row["wanted"] else ""


def register(app: typer.Typer) -> None:
    """Add the commands to `metadata`."""
    app.command()(diff)
    app.command()(status)
