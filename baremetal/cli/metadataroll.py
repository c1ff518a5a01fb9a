"""`baremetal metadata rollout`: watch, resume or abort a staged change."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.words import Json
from baremetal.errors import BaremetalError

app = typer.Typer(no_args_is_help=True, help="Changes that go to the nodes in stages (metadata set --canary).")
LOOK_S = 0.5
Number = Annotated[int, typer.Argument(metavar="[ID]", help="The last one without it.")]


@app.command()
def show(number: Number = 0, as_json: Json = False) -> None:
    """How far the last roll-out is, node by node."""
    doc = _get(Client.default(), number)
    if as_json:
        render.json_out(doc)
        return
    render.table(doc["nodes"], ["node", "outcome", "generation"])
    render.note(
        f"roll-out {doc['id']} of {doc['layer']} {doc['name']}".rstrip() + f": {doc['state']}, {doc['summary']}"
    )


@app.command()
def resume(as_json: Json = False) -> None:
    """Go on after a failure was mended: nodes that failed must report anew."""
    client = Client.default()
    follow(client, client.post("/api/metadata-rollout", {"do": "resume"})["rollout"], as_json)


@app.command()
def abort(as_json: Json = False) -> None:
    """Take the change back: the layer and every node that had it get the old values."""
    doc = Client.default().post("/api/metadata-rollout", {"do": "abort"})["rollout"]
    if as_json:
        render.json_out(doc)
    else:
        render.note(f"roll-out {doc['id']}: {doc['because']}")


def follow(client: Client, doc: dict[str, Any], as_json: bool) -> None:
    """Tell what happens until it is over; the server goes on when this command ends."""
    said = ""
    try:
        while True:
            if doc["summary"] != said:
                said = doc["summary"]
                render.note(said)
            if doc["state"] != "running":
                break
            time.sleep(LOOK_S)
            doc = _get(client, doc["id"])
    except KeyboardInterrupt:
        render.note("the roll-out goes on without this command: baremetal metadata rollout show")
        raise
    if as_json:
        render.json_out(doc)
    if doc["state"] != "done":
        raise BaremetalError(
            f"roll-out {doc['id']} {doc['state']}: {doc['because']}",
            fix="mend it, then: baremetal metadata rollout resume; or take it back: baremetal metadata rollout abort",
        )


def _get(client: Client, number: int) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/metadata-rollout", **({"id": number} if number else {}))["rollout"]
    return found
