"""`baremetal webhook`: events sent, signed, to other servers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json, Yes, complete_kinds, complete_webhooks, confirm
from baremetal.cli.words import password as secret_of

app = typer.Typer(no_args_is_help=True, help="Webhooks: events sent, signed, to other servers.")
Name = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Name or id.", autocompletion=complete_webhooks)]


@app.command("list")
@listing
def every(listed: Listed) -> None:
    """Webhooks, and what their receivers have not taken yet."""
    columns = ["name", "url", "kinds", "waiting", "failing"]
    listed.show(Client.default().get("/api/webhooks"), "webhooks", columns, empty="no webhooks")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A name of your choice.")],
    url: Annotated[str, typer.Argument(help="https://host/path; gets POST requests.")],
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", "-k", help="Only events of this kind; repeat it.", autocompletion=complete_kinds),
    ] = None,
    secret_file: Annotated[Path | None, typer.Option(help="File with the signing secret; made otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Make one; the secret that signs its requests is printed, this once."""
    body = {"name": name, "url": url, "kinds": kind or []}
    given = secret_of(secret_file, "BAREMETAL_WEBHOOK_SECRET")
    doc = Client.default().post("/api/webhooks", body | ({"secret": given} if given else {}))
    render.json_out(doc) if as_json else print(doc["secret"])


@app.command("test")
def trial(name: Name, as_json: Json = False) -> None:
    """Send it an event of kind `server`; refused when it does not take that kind."""
    doc = Client.default().post(f"/api/webhooks/{name}/test", {})
    render.json_out(doc) if as_json else render.note(f"event {doc['event']} is on its way; see: baremetal webhook list")


@app.command()
def delete(name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Forget it; what waits for it is not sent."""
    confirm(f"Delete webhook {name}?", yes=yes)
    Client.default().delete(f"/api/webhooks/{name}")
    render.json_out({"deleted": name}) if as_json else render.note(f"{name}: deleted")
