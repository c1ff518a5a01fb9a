"""`baremetal node …`: machines, from the BMC address to the configured node. The verbs of life are in nodeverbs.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from baremetal.cli import failure, nodebmc, nodeconsole, nodeenroll, nodelook, nodeset, nodeverbs, render
from baremetal.cli.asked import expand
from baremetal.cli.client import Client, node_path
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import (
    Json,
    NodeName,
    NodeNames,
    Where,
    Yes,
    checked_state,
    complete_nodes,
    complete_states,
    confirm,
)
from baremetal.errors import EXIT_FAILED, BaremetalError, UsageError

# The order of the help: a machine's life from the rack on. What is not named comes after, as registered.
ORDER = (
    *("enroll", "import", "list", "show", "explain", "timeline", "set", "manage", "inspect", "provide", "deploy"),
    *("undeploy", "rebuild", "clean", "rescue", "unrescue", "service", "adopt", "abort", "hold", "unhold"),
    *("power", "boot-device", "console", "history", "inventory", "validate", "maintenance", "delete"),
)


class Ordered(TyperGroup):
    """Commands in the order that they are needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    cls=Ordered,
    no_args_is_help=True,
    help="Machines: enroll, list, inspect, provide, deploy, power, explain, timeline. "
    "A NODE is a name or an id; verbs also take ranges like r1-u[01-40] and --where.",
)
nodeenroll.register(app)
nodeverbs.register(app)
nodeset.register(app)
nodelook.register(app)
nodebmc.register(app)
nodeconsole.register(app)

LIST_COLUMNS = ["name", "state", "power", "image", "class", "doing"]


@app.command("list")
@listing
def list_(
    listed: Listed,
    where: Where = "",
    state: Annotated[str, typer.Option(help="Only nodes in this state.", autocompletion=complete_states)] = "",
) -> None:
    """All nodes, one a line."""
    checked_state(state)
    client = Client.default()
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = client.get("/api/nodes", where=where, state=state, limit=1000, after=after)
        found += page["nodes"]
        after = page.get("next") or ""
        if not after:
            break
    empty = "no nodes; enroll one: baremetal node enroll NAME --bmc ipmi://ADDRESS"
    listed.show({"nodes": found}, "nodes", LIST_COLUMNS, row=_row, empty="no node matches" if where or state else empty)


def _row(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a person sees of a node in a list."""
    state = node["ironic_state"] if node.get("fault") else node["state"]
    return {"class": node["resource_class"], "doing": nodelook.now_of(dict(node)), "state": state}


@app.command()
def show(node: NodeName, as_json: Json = False) -> None:
    """Everything about one node."""
    doc = Client.default().get(node_path(node))
    if as_json:
        render.json_out(doc)
        return
    nodelook.show(doc)


@app.command()
def maintenance(
    node: Annotated[
        str, typer.Argument(metavar="NODE", help="Name, id or range like r1-u[01-40].", autocompletion=complete_nodes)
    ],
    reason: Annotated[str, typer.Argument(help="Why; leave it out with --off.")] = "",
    off: Annotated[bool, typer.Option("--off", help="End the maintenance.")] = False,
    as_json: Json = False,
) -> None:
    """Take nodes out of automatic care, with a reason; or put them back."""
    if node in ("set", "unset") and reason:  # Ironic's order of words
        command = f"{reason} " + ("'why'" if node == "set" else "--off")
        raise UsageError(f"there is no `maintenance {node}`", fix=f"baremetal node maintenance {command}")
    if bool(reason) == off:
        raise UsageError("maintenance wants a reason, or --off", fix="baremetal node maintenance r1-u07 'bad DIMM'")
    client = Client.default()
    docs = [client.patch(node_path(name), {"maintenance": None if off else reason}) for name in expand([node], "")]
    if as_json:
        render.json_out(docs[0] if len(docs) == 1 else {"nodes": docs})
        return
    for doc in docs:
        render.note(f"{doc['name']}: " + ("maintenance ended" if off else f"in maintenance: {reason}"))


@app.command()
def delete(
    nodes: NodeNames = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is not released; its disk stays as it is.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Forget nodes. A deployed node is refused without --force."""
    names = expand(nodes, "")
    confirm(
        f"Forget {len(names)} node{'s' if len(names) > 1 else ''}: {' '.join(names[:10])}?", yes=yes or len(names) == 1
    )
    client, forgotten, refused = Client.default(), [], dict[str, BaremetalError]()
    for name in names:
        try:
            client.delete(node_path(name), force=1 if force else None)
        except BaremetalError as exc:
            refused[name] = exc
            continue
        forgotten.append(name)
        if not as_json:
            render.note(f"{name}: forgotten")
    if len(names) == 1 and refused:
        raise refused[names[0]]
    for error in refused.values():
        failure.show(error)
    if as_json:
        render.json_out({"forgotten": forgotten, "refused": {name: error.brief for name, error in refused.items()}})
    if refused:
        raise typer.Exit(EXIT_FAILED)
