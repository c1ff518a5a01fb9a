"""`baremetal events`: everything that happened, and what happens now."""

from __future__ import annotations

from typing import Annotated

import typer

from baremetal.cli import nodelook, render
from baremetal.cli.client import Client
from baremetal.cli.words import complete_kinds, complete_nodes
from baremetal.errors import UsageError

app = typer.Typer()


def _checked(kind: str) -> None:
    from baremetal.config import nearest

    known = complete_kinds("")
    if kind and kind not in known:
        raise UsageError(f"there is no kind {kind!r} of event{nearest(kind, known)}", fix=f"one of {', '.join(known)}")


@app.command()
def events(
    node: Annotated[str, typer.Option("--node", "-n", help="Only this node.", autocompletion=complete_nodes)] = "",
    kind: Annotated[
        str,
        typer.Option(
            "--kind", "-k", help="verb, state, step, fault, bmc, dhcp, hello, security …", autocompletion=complete_kinds
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON; with --follow one document a line.")] = False,
) -> None:
    """The last events, newest last.

    \b
    Examples:
      baremetal events --follow
      baremetal events --node r1-u07 --kind fault
      baremetal events --follow --json | jq 'select(.outcome == "failed")'
    """
    _checked(kind)
    client = Client.default()
    doc = client.get("/api/events", node=node, kind=kind, limit=limit, newest=1)
    if not follow:
        if as_json:
            render.json_out(doc)
            return
        nodelook.event_lines(doc["events"])
        if not doc["events"]:
            render.note("no such event yet" if node or kind else "nothing happened yet")
        return
    for event in doc["events"]:
        _show(event, as_json)
    for name, event in client.stream("/api/events/stream", node=node, after=doc.get("last")):
        if name != "nodes" and (not kind or event.get("kind") == kind):
            _show(event, as_json)


def _show(event: dict[str, object], as_json: bool) -> None:
    import json

    print(json.dumps(event, ensure_ascii=False) if as_json else nodelook.event_line(event), flush=True)
