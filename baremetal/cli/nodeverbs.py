"""The verbs of a node's life and its power, for one node or many, with --wait and --dry-run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render, waiting
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import (
    DryRun,
    Json,
    NodeNames,
    Timeout,
    Wait,
    Where,
    Yes,
    complete_images,
    confirm,
    document,
    flat_pairs,
    pairs,
)
from baremetal.errors import EXIT_FAILED, UsageError

# Fleets above this are shown and asked for before anything is done.
FLEET = 5
PLAIN_VERBS = {
    "manage": "Ask the BMC who the machine is; from then on it is ours to manage.",
    "undeploy": "Release a deployed node: it is cleaned and becomes available again.",
    "unrescue": "Boot the node's own disk again; the rescue password ends with the ramdisk.",
    "abort": "Stop what is under way, where that is safe.",
    "hold": "Stop before the next step.",
    "unhold": "Go on after hold.",
}


class Target(StrEnum):
    ON = "on"
    OFF = "off"
    REBOOT = "reboot"
    SOFT_OFF = "soft-off"
    STATUS = "status"


def ask(
    verb: str,
    nodes: list[str] | None,
    where: str,
    args: dict[str, Any],
    *,
    wait: bool,
    timeout: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask a verb of one node or of many; show verdicts; wait if told to."""
    client = Client.default()
    names = list(nodes or ())
    if not names and not where:
        raise UsageError(f"{verb}: which nodes?", fix=f"baremetal node {verb} r1-u07, a range, or --where 'state=…'")
    if len(names) == 1 and "[" not in names[0] and not where and not dry_run:
        doc = client.put(node_path(names[0], "verbs", verb), args)
        if wait:
            doc = waiting.follow(client, doc["id"], timeout)
        render.json_out(doc) if as_json else render.note(f"{doc['name']}: {_accepted(doc, verb, wait)}")
        return
    body = {"verb": verb, "nodes": names or None, "where": where or None, "args": args}
    plan = client.post("/api/bulk", body | {"dry_run": True})
    if dry_run:
        _verdicts(plan, as_json)
        return
    count = sum(r["verdict"] != "refused" for r in plan["results"])
    if count > FLEET:
        confirm(f"{verb} {count} nodes?", yes=yes)
    done = client.post("/api/bulk", body | {"dry_run": False})
    _finish(client, done, wait, timeout, as_json)


def _finish(client: Client, done: dict[str, Any], wait: bool, timeout: float, as_json: bool) -> None:
    failed = int(done["refused"])
    if wait:
        taken = [r["node"] for r in done["results"] if r["verdict"] == "accepted"]
        nodes = waiting.follow_all(client, taken, timeout)
        failed += sum(waiting.failure_of(n) is not None for n in nodes)
        done["nodes"] = nodes
    _verdicts(done, as_json)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _verdicts(doc: dict[str, Any], as_json: bool) -> None:
    if as_json:
        render.json_out(doc)
        return
    render.table(doc["results"], ["node", "verdict", "because", "consequences"], empty="no node matches")


def _accepted(doc: dict[str, Any], verb: str, waited: bool) -> str:
    if waited:
        return f"{verb} done, {doc['state']}"
    return f"{verb} accepted; follow it with: baremetal node timeline --follow {doc['name']}"


def expand(nodes: list[str] | None, where: str) -> list[str]:
    """Names with ranges written out, as the server sees them."""
    if not nodes and not where:
        raise UsageError("which nodes?", fix="name one, or a range like r1-u[01-40]")
    if nodes and not where and not any("[" in name for name in nodes):
        return list(nodes)
    body: dict[str, Any] = {"verb": "power-on", "nodes": nodes, "where": where or None, "args": {}, "dry_run": True}
    return [r["node"] for r in Client.default().post("/api/bulk", body)["results"]]


def _plain(verb: str, meaning: str) -> Any:
    def command(
        nodes: NodeNames = None,
        where: Where = "",
        wait: Wait = False,
        timeout: Timeout = 3600.0,
        dry_run: DryRun = False,
        yes: Yes = False,
        as_json: Json = False,
    ) -> None:
        ask(verb, nodes, where, {}, wait=wait, timeout=timeout, dry_run=dry_run, yes=yes, as_json=as_json)

    command.__doc__ = meaning
    return command


def clean(
    nodes: NodeNames = None,
    where: Where = "",
    method: Annotated[str, typer.Option(help="metadata (tables and signatures), zero, discard, secure or best.")] = "",
    disk: Annotated[
        list[str] | None, typer.Option("--disk", help="Only this disk: serial=… or wwn=…; may repeat.")
    ] = None,
    steps: Annotated[Path | None, typer.Option(help="JSON or YAML list of steps.")] = None,
    erase_foreign: Annotated[bool, typer.Option("--erase-foreign", help="Also data that was never ours.")] = False,
    wait: Wait = False,
    timeout: Timeout = 86400.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Clean manageable nodes: only local disks that inspection has listed."""
    args: dict[str, Any] = {"method": method, "disks": [flat_pairs([d], "--disk") for d in disk or ()]}
    args["erase_foreign"] = erase_foreign
    if steps:
        args["steps"] = document(steps)
    args = {k: v for k, v in args.items() if v}
    ask("clean", nodes, where, args, wait=wait, timeout=timeout, dry_run=dry_run, yes=yes, as_json=as_json)


def _deploy(verb: str) -> Any:
    def command(
        nodes: NodeNames = None,
        image: Annotated[str, typer.Option("--image", "-i", help="Name or id.", autocompletion=complete_images)] = "",
        where: Where = "",
        metadata: Annotated[list[str] | None, typer.Option("--metadata", "-m", help="key=value; dots nest.")] = None,
        user_data: Annotated[Path | None, typer.Option(help="File for the config drive's user_data.")] = None,
        config_drive: Annotated[bool, typer.Option("--config-drive/--no-config-drive", help="Write one.")] = True,
        root_device: Annotated[list[str] | None, typer.Option("--root-device", help="Hint like serial=S3X.")] = None,
        data_partition: Annotated[str, typer.Option(help="NAME=GIB: a partition that a rebuild can preserve.")] = "",
        preserve: Annotated[list[str] | None, typer.Option(help="Rebuild: keep this partition; may repeat.")] = None,
        steps: Annotated[Path | None, typer.Option(help="JSON or YAML list of steps.")] = None,
        wait: Wait = False,
        timeout: Timeout = 3600.0,
        dry_run: DryRun = False,
        yes: Yes = False,
        as_json: Json = False,
    ) -> None:
        args: dict[str, Any] = {"image": image}
        if not image and verb == "deploy":
            raise UsageError("deploy: which image?", fix="--image NAME; see: baremetal image list")
        if metadata:
            args["metadata"] = pairs(metadata, "--metadata")
        if root_device:
            args["root_device"] = flat_pairs(root_device, "--root-device")
        if user_data:
            args["config_drive"] = {"user_data": _text(user_data)}
        elif not config_drive:
            args["config_drive"] = False
        if preserve and verb == "deploy":
            raise UsageError("deploy preserves nothing: the node was cleaned", fix="baremetal node rebuild --preserve")
        if steps:
            args["steps"] = document(steps)
        args |= {"data_partition": _partition(data_partition)} if data_partition else {}
        args |= {"preserve": preserve} if preserve else {}
        args = {k: v for k, v in args.items() if v != ""}
        ask(verb, nodes, where, args, wait=wait, timeout=timeout, dry_run=dry_run, yes=yes, as_json=as_json)

    command.__doc__ = {
        "deploy": """Write an image to available nodes, boot them and configure them.

        The root disk is overwritten. Of several nodes each gets its own verdict; one failure gives exit code 1.

        \b
        Examples:
          baremetal node deploy r1-u07 --image web --wait
          baremetal node deploy 'r1-u[01-40]' --image web --dry-run
          baremetal node deploy --where 'class=compute and state=available' --image web --yes
          baremetal node deploy r1-u07 --image web --metadata role=frontend --root-device serial=S3X12
          baremetal node deploy r1-u07 --image web --data-partition data=200
        """,
        "rebuild": """Write the image again, or another, to deployed nodes; their disk is overwritten.

        With --preserve a data partition stays as it is: the image must end before it begins.

        \b
        Example:
          baremetal node rebuild r1-u07 --preserve data --wait
        """,
    }[verb]
    return command


def _partition(text: str) -> dict[str, Any]:
    name, _, size = text.partition("=")
    try:
        return {"name": name, "size_gib": float(size)}
    except ValueError:
        raise UsageError(f"--data-partition {text!r}", fix="NAME=GIB, like data=200") from None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read {path}: {exc}") from exc


def done_by_hand(nodes: NodeNames = None) -> None:
    """Say that you did by hand what a machine without BMC waits for (manual://…); explain says what."""
    client = Client.default()
    for name in expand(list(nodes or ()), ""):
        doc = client.put(node_path(name, "confirm"), {})
        render.note(f"{doc['name']}: confirmed")


def power(
    nodes: NodeNames = None,
    target: Annotated[Target, typer.Option("--set", "-s", help="What to do; status only looks.")] = Target.STATUS,
    where: Where = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Power of nodes: without a word behind it looks, with on, off, reboot or soft-off it acts.

    \b
    Examples:
      baremetal node power r1-u07
      baremetal node power r1-u07 reboot
      baremetal node power 'r1-u[01-40]' off --dry-run
    """
    names = list(nodes or ())
    if names and names[-1] in set(Target):
        target = Target(names.pop())
    client = Client.default()
    if target is Target.STATUS:
        rows = [client.get(node_path(name, "power")) | {"node": name} for name in expand(names, where)]
        render.json_out({"nodes": rows}) if as_json else render.table(rows, ["node", "power", "wanted", "seen_at"])
        return
    if len(names) == 1 and "[" not in names[0] and not where and not dry_run:
        doc = client.put(node_path(names[0], "power"), {"target": str(target)})
        render.json_out(doc) if as_json else render.note(f"{doc['name']}: power {target} ordered")
        return
    verb = str(target) if target is Target.REBOOT else f"power-{target.removeprefix('soft-')}"
    ask(verb, names, where, {}, wait=False, timeout=0, dry_run=dry_run, yes=yes, as_json=as_json)


def boot_device(
    node: Annotated[str, typer.Argument(metavar="NODE")],
    device: Annotated[str, typer.Argument(help="pxe, disk, cdrom, bios; nothing: show it.")] = "",
    persistent: Annotated[bool, typer.Option("--persistent", help="Not only for the next boot.")] = False,
    as_json: Json = False,
) -> None:
    """The device that the machine boots from next."""
    client = Client.default()
    path = node_path(node, "boot-device")
    doc = client.put(path, {"device": device, "persistent": persistent}) if device else client.get(path)
    render.json_out(doc) if as_json else render.fields(doc)


def register(app: typer.Typer) -> None:
    """Add the commands to `node`."""
    from baremetal.cli import noderamdisk  # it asks by our `ask`

    noderamdisk.register(app)
    for verb, meaning in PLAIN_VERBS.items():
        app.command(verb)(_plain(verb, meaning))
    app.command("clean")(clean)
    app.command("deploy")(_deploy("deploy"))
    app.command("rebuild")(_deploy("rebuild"))
    app.command("confirm")(done_by_hand)
    app.command("power")(power)
    app.command("boot-device")(boot_device)
