"""`baremetal node …`: machines, from the BMC address to the configured node. The verbs of life are in nodeverbs.py."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from baremetal.cli import nodebmc, nodeconsole, nodeenroll, nodelook, nodeverbs, render
from baremetal.cli.asked import expand
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import Json, NodeName, NodeNames, Where, Yes, complete_states, confirm, flat_pairs, pairs
from baremetal.errors import UsageError

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
nodelook.register(app)
nodebmc.register(app)
nodeconsole.register(app)

LIST_COLUMNS = ["name", "state", "power", "image", "class", "doing"]
_DESCRIBED = ("bmc_url", "resource_class", "firmware", "arch", "name")


@app.command("list")
def list_(
    where: Where = "",
    state: Annotated[str, typer.Option(help="Only nodes in this state.", autocompletion=complete_states)] = "",
    columns: Annotated[str, typer.Option(help="Columns, comma-separated; any field of --json.")] = "",
    as_json: Json = False,
) -> None:
    """All nodes, one a line."""
    client = Client.default()
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = client.get("/api/nodes", where=where, state=state, limit=1000, after=after)
        found += page["nodes"]
        after = page.get("next") or ""
        if not after:
            break
    if as_json:
        render.json_out({"nodes": found})
        return
    rows = [node | {"class": node["resource_class"], "doing": nodelook.now_of(node)} for node in found]
    for row in rows:
        row["state"] = row["ironic_state"] if row.get("fault") else row["state"]
    names = [c.strip() for c in columns.split(",") if c.strip()] or LIST_COLUMNS
    if rows and (unknown := [c for c in names if c not in rows[0]]):
        raise UsageError(f"no column {', '.join(unknown)}", detail=f"columns: {', '.join(sorted(rows[0]))}")
    render.table(rows, names, empty="no nodes; enroll one: baremetal node enroll NAME --bmc ipmi://ADDRESS")


@app.command()
def show(node: NodeName, as_json: Json = False) -> None:
    """Everything about one node."""
    doc = Client.default().get(node_path(node))
    if as_json:
        render.json_out(doc)
        return
    nodelook.show(doc)


@app.command("set")
def set_(
    node: NodeName,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="bmc_url, resource_class, firmware …")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="key=value; empty value removes.")] = None,
    prop: Annotated[list[str] | None, typer.Option("--property", "-p", help="key=value of properties.")] = None,
    trait: Annotated[list[str] | None, typer.Option("--trait", help="Replaces all traits.")] = None,
    root_device: Annotated[
        list[str] | None, typer.Option("--root-device", help="Hint like serial=S3X or size=>=100.")
    ] = None,
    mac: Annotated[list[str] | None, typer.Option("--mac", help="Replaces the ports' addresses.")] = None,
    protected: Annotated[bool | None, typer.Option("--protected/--unprotected", help="Refuse to release it.")] = None,
    retired: Annotated[bool | None, typer.Option("--retired/--not-retired", help="Never give it out again.")] = None,
    as_json: Json = False,
) -> None:
    """Change what is known of a node; not its state."""
    client = Client.default()
    change = flat_pairs(values, "field")
    if unknown := [key for key in change if key not in _DESCRIBED]:
        raise UsageError(f"no settable field {', '.join(unknown)}", fix=f"one of {', '.join(_DESCRIBED)}, or an option")
    if label or prop:
        now = client.get(node_path(node))
        if label:
            change["labels"] = _merged(now["labels"], {k: str(v) for k, v in flat_pairs(label, "--label").items()})
        if prop:
            change["properties"] = _merged(now["properties"], pairs(prop, "--property"))
    change |= {
        key: value
        for key, value in {
            "traits": trait,
            "root_device": flat_pairs(root_device, "--root-device") if root_device else None,
            "macs": mac,
            "protected": protected,
            "retired": retired,
        }.items()
        if value is not None
    }
    if not change:
        raise UsageError("nothing to change was named", fix="baremetal node set --help")
    doc = client.patch(node_path(node), change)
    render.json_out(doc) if as_json else render.note(f"{doc['name']}: {', '.join(change)} set")


@app.command()
def maintenance(
    node: NodeName,
    reason: Annotated[str, typer.Argument(help="Why; leave it out with --off.")] = "",
    off: Annotated[bool, typer.Option("--off", help="End the maintenance.")] = False,
) -> None:
    """Take a node out of automatic care, with a reason; or put it back."""
    if bool(reason) == off:
        raise UsageError("maintenance wants a reason, or --off", fix="baremetal node maintenance r1-u07 'bad DIMM'")
    doc = Client.default().patch(node_path(node), {"maintenance": None if off else reason})
    render.note(f"{doc['name']}: " + ("maintenance ended" if off else f"in maintenance: {reason}"))


@app.command()
def delete(
    nodes: NodeNames = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is not released; its disk stays as it is.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Forget nodes. A deployed node is refused without --force."""
    names = expand(nodes, "")
    confirm(
        f"Forget {len(names)} node{'s' if len(names) > 1 else ''}: {' '.join(names[:10])}?", yes=yes or len(names) == 1
    )
    client = Client.default()
    for name in names:
        client.delete(node_path(name), force=1 if force else None)
        render.note(f"{name}: forgotten")


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """New keys win; an empty or null value removes."""
    return {k: v for k, v in {**old, **new}.items() if v not in ("", None)}
