"""`baremetal metadata …`: what nodes are configured from. Layers: defaults < site < role < node."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from baremetal.cli import metadatacare, metadatalook, metadataroll, render
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import Json, Timeout, Wait, complete_nodes, document, pairs
from baremetal.errors import BaremetalError, NotFound, TimedOut, UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="What nodes are configured from. Layers are merged deeply, lists replaced: "
    "--defaults, then --site, then --role NAME, then the node's own.",
)

metadatalook.register(app)
metadatacare.register(app)
app.add_typer(metadatacare.schema, name="schema")
app.add_typer(metadatacare.secret, name="secret")
app.add_typer(metadataroll.app, name="rollout")

Node = Annotated[
    str,
    typer.Argument(metavar="[NODE]", help="Name or id; leave it out for another layer.", autocompletion=complete_nodes),
]
Site = Annotated[bool, typer.Option("--site", help="The layer of the whole site.")]
Defaults = Annotated[bool, typer.Option("--defaults", help="The lowest layer.")]
Role = Annotated[str, typer.Option("--role", help="The layer of this role (label role=NAME of nodes).")]


@app.command()
def show(
    node: Node = "",
    site: Site = False,
    defaults: Defaults = False,
    role: Role = "",
    explain: Annotated[bool, typer.Option("--explain", help="Each value with its layer and what it hides.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show secrets too.")] = False,
    as_json: Json = False,
) -> None:
    """A node's merged document with its layers, or one layer."""
    client = Client.default()
    shown = {"reveal": 1} if reveal else {}
    if node:
        doc = client.get(node_path(node, "metadata"), **shown)
        if explain:
            rows = metadatalook.explain(doc)
            render.json_out({"values": rows}) if as_json else render.table(rows, ["path", "value", "layer", "hides"])
            return
        if as_json:
            render.json_out(doc)
            return
        if doc["document"] is None:
            raise NotFound(f"{node} has no metadata document", fix=f"baremetal events --node {node} says why")
        applied = doc.get("applied") or {}
        seen = f"applied {applied['generation']} ({applied['outcome']})" if applied else "not yet applied"
        render.note(f"generation {doc['generation']}, {seen}")
        render.json_out(doc["document"]["values"])
        return
    doc = client.get(_layer(site, defaults, role), **shown)
    render.json_out(doc if as_json else doc["values"])


@app.command("set")
def set_(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NODE] [KEY=VALUE]...", help="Dots nest (web.port=80); JSON values are taken as such."),
    ] = None,
    site: Site = False,
    defaults: Defaults = False,
    role: Role = "",
    file: Annotated[Path | None, typer.Option("--file", "-f", help="JSON or YAML of values; - is stdin.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Forget the layer's other values.")] = False,
    canary: Annotated[int, typer.Option("--canary", min=0, help="So many nodes first.")] = 0,
    batch: Annotated[str, typer.Option("--batch", help="Then so many at a time: 4, or 10%.")] = "",
    why: Annotated[str, typer.Option("--why", help="A word for `metadata history`.")] = "",
    wait: Wait = False,
    timeout: Timeout = 300.0,
    as_json: Json = False,
) -> None:
    """Set values of a node or of a layer; running nodes get them at once.

    With --wait it returns when the nodes concerned have applied them and said so.
    With --canary or --batch each group must report success before the next gets
    the change; the first failure, or --timeout without a report, stops it.

    \b
    Examples:
      baremetal metadata set r1-u07 web.greeting='good morning' --wait
      baremetal metadata set --site ntp.servers='["10.0.0.1", "10.0.0.2"]'
      baremetal metadata set --role compute --file compute.yaml
      baremetal metadata set --site kernel.panic=10 --canary 2 --batch 10%
    """
    node, assignments = _split(words or [], site or defaults or bool(role))
    values = _values(file, assignments)
    if not values and not replace:
        raise UsageError("nothing to set was named", fix="write key=value, or --file")
    body: dict[str, Any] = {"values": values, "mode": "replace" if replace else "merge", "why": why}
    if canary or batch:
        body |= {"canary": canary, "batch": batch, "patience_s": timeout}
    put(node, _layer(site, defaults, role) if not node else "", body, wait, timeout, as_json)


@app.command()
def edit(
    node: Node = "",
    site: Site = False,
    defaults: Defaults = False,
    role: Role = "",
    wait: Wait = False,
    timeout: Timeout = 300.0,
    as_json: Json = False,
) -> None:
    """Edit one layer as YAML in $EDITOR; it is checked and stored when the editor closes."""
    client = Client.default()
    place = "" if node else _layer(site, defaults, role)
    values = _own_layer(client, node, place)
    edited = metadatacare.in_editor(values, node or place.removeprefix("/api/metadata/"))
    if edited == values:
        render.note("nothing changed")
        return
    put(node, place, {"values": edited, "mode": "replace", "why": "edited"}, wait, timeout, as_json)


@app.command()
def unset(
    words: Annotated[list[str], typer.Argument(metavar="[NODE] KEY...", help="Keys, dots nest.")],
    site: Site = False,
    defaults: Defaults = False,
    role: Role = "",
    wait: Wait = False,
    timeout: Timeout = 300.0,
    as_json: Json = False,
) -> None:
    """Remove values from one layer; a lower layer's value shows again."""
    client = Client.default()
    layered = site or defaults or bool(role)
    node, keys = ("", words) if layered else (words[0], words[1:])
    if not keys:
        raise UsageError("which keys?", fix="baremetal metadata unset NODE web.greeting")
    values = _own_layer(client, node, _layer(site, defaults, role) if layered else "")
    for key in keys:
        _remove(values, key)
    body = {"values": values, "mode": "replace", "why": f"unset {' '.join(keys)}"}
    put(node, _layer(site, defaults, role) if layered else "", body, wait, timeout, as_json)


def _own_layer(client: Client, node: str, place: str) -> dict[str, Any]:
    """The values that are written in this layer itself, secrets included."""
    if node:
        found: dict[str, Any] = client.get(node_path(node, "metadata"), reveal=1)["layers"]["node"]
    else:
        found = client.get(place, reveal=1)["values"]
    return found


def put(node: str, layer: str, body: dict[str, Any], wait: bool, timeout: float, as_json: bool) -> None:
    """Store; say what came of it, and with `wait` wait for the nodes."""
    client = Client.default()
    if "patience_s" in body:
        place = node_path(node, "metadata") if node else layer
        metadataroll.follow(client, client.put(place, body)["rollout"], as_json)
        return
    if node:
        doc = client.put(node_path(node, "metadata"), body)
        concerned = [{"node": node, "generation": doc["generation"]}]
    else:
        doc = client.put(layer, body)
        concerned = doc.get("nodes_changed", [])
    if wait:
        until = time.monotonic() + timeout
        for entry in concerned:
            _wait(client, entry["node"], entry["generation"], until)
    if as_json:
        render.json_out(doc)
        return
    for entry in concerned[:20]:
        render.note(f"{entry['node']}: generation {entry['generation']}")
    if concerned[20:]:
        render.note(f"and {len(concerned) - 20} more nodes")
    if not concerned:
        render.note("stored; no node's document changed")


# Where the node's own system runs, or soon will: elsewhere there is no agent that could report.
LIVING = ("active", "deploying")


def _wait(client: Client, node: str, generation: int, until: float) -> None:
    """Until the node has reported on this generation or a later one; `until` as time.monotonic()."""
    seen: dict[str, int] = {}
    while True:
        doc = client.get(node_path(node), **seen)
        config = doc.get("config") or {}
        reported = config.get("generation") or 0
        if reported >= generation:
            if config.get("outcome") == "failed":
                fault = config.get("fault") or {}
                raise BaremetalError(
                    fault.get("brief") or f"{doc['name']}: generation {generation} could not be applied",
                    detail=fault.get("detail", ""),
                    fix=fault.get("fix") or f"baremetal node explain {doc['name']}",
                )
            render.note(f"{doc['name']}: generation {config['generation']} {config['outcome']}")
            return
        if doc["state"] not in LIVING:
            render.note(f"{doc['name']}: is {doc['state']}; gets generation {generation} when its own system runs")
            return
        if not seen:
            render.note(f"{doc['name']}: waiting for its report on generation {generation}")
        seen = {"wait": 30, "fence": doc["fence"], "reported": reported}
        if time.monotonic() > until:
            raise TimedOut(
                f"{doc['name']} has not applied generation {generation} in the time given",
                fix=f"is its agent alive? baremetal node explain {doc['name']}",
            )


def _split(words: list[str], layered: bool) -> tuple[str, list[str]]:
    if layered:
        return "", words
    if not words or "=" in words[0]:
        raise UsageError("whose metadata?", fix="name a node first, or --site, --role NAME, --defaults")
    return words[0], words[1:]


def _values(file: Path | None, assignments: list[str]) -> dict[str, Any]:
    values: Any = document(file) if file else {}
    if not isinstance(values, dict):
        raise UsageError(f"{file}: expected an object of values")
    return _merge(values, pairs(assignments, "metadata"))


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _remove(values: dict[str, Any], key: str) -> None:
    *path, last = key.split(".")
    place: Any = values
    for name in path:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        raise NotFound(f"{key} is not set in this layer", fix="baremetal metadata show --json NODE shows the layers")
    del place[last]


def _layer(site: bool, defaults: bool, role: str) -> str:
    if site + defaults + bool(role) != 1:
        raise UsageError("which layer?", fix="a NODE, or one of --site, --defaults, --role NAME")
    if role:
        return f"/api/metadata/role/{quote(role, safe='')}"
    return "/api/metadata/site" if site else "/api/metadata/defaults"
