"""Looking at nodes: show, explain, timeline, history, inventory, validate."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Annotated, Any

import typer

from baremetal.cli import chart, render, waiting
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import Json, NodeName, complete_images, complete_nodes, one_of
from baremetal.errors import EXIT_FAILED

# As workflows/checks has them, which is too heavy to import for a completion.
GROUPS = ("pre-enroll", "pre-deploy", "post-deploy", "pre-upgrade")


def now_of(node: dict[str, Any]) -> str:
    """What a node does now, in a few words."""
    fault = node.get("fault")
    if fault and node.get("phase") in ("working", "waiting", "held"):  # it goes on: an earlier try went wrong
        return f"{waiting.doing(node)} (before: {fault['brief']})"
    if fault:
        return f"failed: {fault['brief']}"
    if node.get("maintenance"):
        return f"maintenance: {node['maintenance']}"
    if node.get("wanted") or node.get("phase") not in ("stable", None):
        return waiting.doing(node)
    config = node.get("config") or {}
    return configured(config)


def configured(config: dict[str, Any]) -> str:
    """How the node's agent fared with its metadata, in one line; empty when it never said."""
    match config.get("outcome"):
        case "applied" | "unchanged":
            return f"configured, generation {config['generation']}"
        case "drift":
            paths = ", ".join((config.get("drift") or [])[:3])
            return f"configured, generation {config['generation']}; changed by hand: {paths}"
        case "failed":
            places = config.get("scripts_failed") or []
            where = f" in {places[0].rpartition('/')[2]}" if places else ""
            why = "" if where else f" ({(config.get('fault') or {}).get('brief', '')})"
            stays = f"; generation {config['applied']} is in place" if config.get("applied") else ""
            return f"generation {config['generation']} failed{where}{why}, rolled back{stays}"
    return ""


def show(node: dict[str, Any]) -> None:
    """One node for a person: what matters first."""
    ports = node.get("ports") or []
    fault, wait = node.get("fault"), node.get("wait")
    doc = {
        "name": node["name"],
        "state": f"{node['ironic_state'] if fault else node['state']} for {render.ago(node['state_since'])}",
        "doing": now_of(node),
        "fault": fault["brief"] if fault else "",
        "fix": fault.get("fix", "") if fault else "",
        "waits_for": wait["because"] if wait else "",
        "power": node["power"],
        "image": node.get("image"),
        "bmc": node["bmc_url"],
        "firmware": node["firmware"],
        "arch": node["arch"],
        "class": node["resource_class"],
        "traits": node["traits"],
        "labels": node["labels"],
        "ports": [f"{p['mac']} {p.get('address') or ''}".strip() for p in ports],
        "uuid": node["system_uuid"],
        "serial": node["serial"],
        "properties": node["properties"],
        "root_device": node["root_device"],
        "flags": [flag for flag in ("protected", "retired", "maintenance") if node.get(flag)],
        "can": node["allowed"],
        "id": node["id"],
    }
    render.fields({k: v for k, v in doc.items() if v not in (None, "", [], {})})


def explain(node: NodeName, as_json: Json = False) -> None:
    """Where the node is, since when, why, what happens next, and what you can do."""
    doc = Client.default().get(node_path(node, "explain"))
    if as_json:
        render.json_out(doc)
        return
    render.fields({"where": doc["where"], "since": _since(doc.get("since")), "why": doc["why"], "next": doc["next"]})
    fault = doc.get("fault")
    if fault:
        print(f"\nfault {fault['code']}: {fault['brief']}")
        for line in (fault.get("detail") or "").splitlines():
            print(f"  {line}")
        if fault.get("fix"):
            print(f"  fix: {fault['fix']}")
        if (fault.get("evidence") or {}).get("console"):
            print(f"  console: {fault['evidence']['console']}")
    for index, cause in enumerate(doc.get("likely") or [], 1):
        print(f"\nlikely cause {index}: {cause['cause']}")
        if cause.get("evidence"):
            print(f"  seen: {render.text_of(cause['evidence'])}")
        if cause.get("fix"):
            print(f"  fix: {cause['fix']}")
    if doc.get("can"):
        print("\nyou can:")
        for command in doc["can"]:
            print(f"  {command}")


def _since(since: Any) -> str:
    if isinstance(since, int | float):
        return f"{render.clock(since)} ({render.ago(since)} ago)"
    return str(since or "")


def timeline(
    node: NodeName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Draw again until its workflow ends.")] = False,
    as_json: Json = False,
) -> None:
    """Every stage of the last run with its seconds, as a bar chart."""
    client = Client.default()
    while True:
        row = client.get(node_path(node))
        doc = client.get(node_path(node, "timeline"))
        if as_json:
            render.json_out(doc)
        else:
            _draw(doc, again=follow)
        if not follow or not (row["wanted"] or row["power_wanted"]):
            return
        client.get(node_path(node), wait=2, fence=row["fence"])


def _draw(doc: dict[str, Any], *, again: bool = False) -> None:
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    drawn = chart.lines(doc["stages"], doc.get("total_s"), time.time(), columns=columns, colour=render.colour())
    if not drawn:
        render.note("nothing happened to it yet")
    if again and columns:
        print("\x1b[H\x1b[J", end="")
    print("\n".join(drawn), flush=True)


def history(
    node: NodeName, limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50, as_json: Json = False
) -> None:
    """Verbs, states and faults only."""
    doc = Client.default().get(node_path(node, "history"), limit=limit)
    if as_json:
        render.json_out(doc)
        return
    event_lines(doc["events"])


def event_lines(found: list[dict[str, Any]]) -> None:
    """Events, a line each."""
    for event in found:
        print(event_line(event))


def event_line(event: dict[str, Any]) -> str:
    """time node kind stage outcome seconds facts"""
    took = f" {event['duration_ms'] / 1000:.1f} s" if event.get("duration_ms") is not None else ""
    outcome = "" if event.get("outcome") in ("ok", None) else f" {event['outcome']}"
    code = f" {event['fault_code']}" if event.get("fault_code") else ""
    who = event.get("node") or event.get("node_id") or "-"
    asked_by = f" by {event['source']}" if event["kind"] == "verb" and event.get("source") else ""
    facts = render.text_of({k: v for k, v in (event.get("data") or {}).items() if v not in ("", None, {}, [])})
    what = f"{event['kind']} {event['stage']}{asked_by}{outcome}{code}{took}"
    return f"{render.clock(event['time'])}  {who}  {what}  {facts}".rstrip()


def inventory(node: NodeName, as_json: Json = False) -> None:
    """The hardware as the last inspection saw it."""
    doc = Client.default().get(node_path(node, "inventory"))
    if as_json or not isinstance(doc.get("inventory"), dict):
        render.json_out(doc)
        return
    for name, value in doc["inventory"].items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"\n{name}:")
            keys = [k for k in value[0] if not isinstance(value[0][k], dict | list)]
            render.table([_readable(one) for one in value], keys[:8])
        else:
            print(f"{name}: {render.text_of(_readable(value) if isinstance(value, dict) else value)}")


def _readable(doc: dict[str, Any]) -> dict[str, Any]:
    """Bytes for people; disks in GB as they are sold."""
    sizes = {"size": lambda n: f"{n / 1e9:.1f} GB", "total": render.size}
    return {k: sizes[k](v) if k in sizes and isinstance(v, int) else v for k, v in doc.items()}


def erasures(
    node: Annotated[
        str, typer.Argument(metavar="[NODE]", help="Only this node's.", autocompletion=complete_nodes)
    ] = "",
    disk: Annotated[str, typer.Option(help="Only the disk with this serial or WWN, in whatever node.")] = "",
    as_json: Json = False,
) -> None:
    """Proofs of erased disks: when, by which method, how much was read again. They are kept for ever.

    \b
    Examples:
      baremetal node erasures r1-u07
      baremetal node erasures --disk S3X0NX0J --json
    """
    path = node_path(node, "erasures") if node else "/api/erasures"
    found = Client.default().get(path, disk=disk)["erasures"]
    if as_json:
        render.json_out({"erasures": found})
        return
    rows = [
        p
        | {
            "when": render.clock(p["time"]),
            "disk": p["name"],
            "read again": f"{(p['bytes_verified'] or 0) / 2**20:.0f} MiB",
            "size": f"{(p['size'] or 0) / 1e9:.1f} GB",
        }
        for p in found
    ]
    columns = ["when", "node", "disk", "serial", "size", "method", "read again", "seconds"]
    render.table(rows, columns, empty="no disk was erased by this server" + (f" in {node}" if node else ""))


def validate(
    node: NodeName,
    group: Annotated[
        str, typer.Option(help="pre-enroll, pre-deploy, post-deploy or pre-upgrade.", autocompletion=one_of(*GROUPS))
    ] = "pre-deploy",
    image: Annotated[
        str,
        typer.Option("--image", "-i", help="As if this image were to be deployed.", autocompletion=complete_images),
    ] = "",
    as_json: Json = False,
) -> None:
    """Would the next step work? Each check with its reason and fix."""
    doc = Client.default().get(node_path(node, "validate"), group=group, image=image)
    render.json_out(doc) if as_json else render.table(doc["checks"], ["verdict", "name", "reason", "fix"])
    if not doc["ok"]:
        raise typer.Exit(EXIT_FAILED)


def register(app: typer.Typer) -> None:
    """Add the commands to `node`."""
    for command in (explain, timeline, history, inventory, erasures, validate):
        app.command(command.__name__)(command)
