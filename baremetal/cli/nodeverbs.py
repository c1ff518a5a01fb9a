"""The verbs of a node's life and its power, for one node or many, with --wait and --dry-run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.asked import LONG_S, Asked, asking, expand
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import (
    DryRun,
    Json,
    NodeName,
    NodeNames,
    Where,
    Yes,
    complete_images,
    complete_methods,
    document,
    flat_pairs,
    one_of,
    pairs,
)
from baremetal.errors import UsageError

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


# Ours, and what ipmitool and Redfish call the same.
PRESSES = {str(target): target for target in Target} | {
    "cycle": Target.REBOOT,
    "reset": Target.REBOOT,
    "restart": Target.REBOOT,
    "soft": Target.SOFT_OFF,
    "shutdown": Target.SOFT_OFF,
}


def _plain(verb: str, meaning: str) -> Any:
    def command(asked: Asked) -> None:
        asked.ask(verb, {})

    command.__doc__ = meaning
    return command


def clean(
    asked: Asked,
    method: Annotated[
        str,
        typer.Option(
            help="metadata (tables and signatures), zero, discard, secure or best.", autocompletion=complete_methods
        ),
    ] = "",
    disk: Annotated[
        list[str] | None, typer.Option("--disk", help="Only this disk: serial=… or wwn=…; may repeat.")
    ] = None,
    steps: Annotated[Path | None, typer.Option(help="JSON or YAML list of steps.")] = None,
    erase_foreign: Annotated[bool, typer.Option("--erase-foreign", help="Also data that was never ours.")] = False,
) -> None:
    """Clean manageable nodes: only local disks that inspection has listed."""
    args: dict[str, Any] = {"method": method, "disks": [flat_pairs([d], "--disk") for d in disk or ()]}
    args["erase_foreign"] = erase_foreign
    if steps:
        args["steps"] = document(steps)
    args = {k: v for k, v in args.items() if v}
    asked.ask("clean", args)


def _deploy(verb: str) -> Any:
    def command(
        asked: Asked,
        image: Annotated[str, typer.Option("--image", "-i", help="Name or id.", autocompletion=complete_images)] = "",
        metadata: Annotated[list[str] | None, typer.Option("--metadata", "-m", help="key=value; dots nest.")] = None,
        user_data: Annotated[Path | None, typer.Option(help="File for the config drive's user_data.")] = None,
        config_drive: Annotated[bool, typer.Option("--config-drive/--no-config-drive", help="Write one.")] = True,
        root_device: Annotated[list[str] | None, typer.Option("--root-device", help="Hint like serial=S3X.")] = None,
        data_partition: Annotated[str, typer.Option(help="NAME=GIB: a partition that a rebuild can preserve.")] = "",
        preserve: Annotated[list[str] | None, typer.Option(help="Rebuild: keep this partition; may repeat.")] = None,
        steps: Annotated[Path | None, typer.Option(help="JSON or YAML list of steps.")] = None,
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
        asked.ask(verb, args)

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


def done_by_hand(nodes: NodeNames = None, as_json: Json = False) -> None:
    """Say that you did by hand what a machine without BMC waits for (manual://…); explain says what."""
    client = Client.default()
    docs = [client.put(node_path(name, "confirm"), {}) for name in expand(list(nodes or ()), "")]
    if as_json:
        render.json_out({"nodes": docs})
        return
    for doc in docs:
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
    if names and names[-1] in PRESSES:
        target = PRESSES[names.pop()]
    elif len(names) > 1 and names[0] in PRESSES:  # Ironic's order: power on r1-u07
        target = PRESSES[names.pop(0)]
    client = Client.default()
    if target is Target.STATUS:
        rows = [client.get(node_path(name, "power")) | {"node": name} for name in expand(names, where)]
        if as_json:
            render.json_out({"nodes": rows})
            return
        shown = [row | {"seen": f"{render.ago(row['seen_at'])} ago" if row["seen_at"] else "never"} for row in rows]
        render.table(shown, ["node", "power", "wanted", "seen"], empty="no node matches")
        return
    if len(names) == 1 and "[" not in names[0] and not where and not dry_run:
        doc = client.put(node_path(names[0], "power"), {"target": str(target)})
        render.json_out(doc) if as_json else render.note(f"{doc['name']}: power {target} ordered")
        return
    verb = str(target) if target is Target.REBOOT else f"power-{target.removeprefix('soft-')}"
    Asked(names, where, wait=False, timeout=0, dry_run=dry_run, yes=yes, as_json=as_json).ask(verb, {})


def boot_device(
    node: NodeName,
    device: Annotated[
        str,
        typer.Argument(
            help="pxe, disk, cdrom, bios; nothing: show it.",
            autocompletion=one_of("pxe", "disk", "cdrom", "bios", "none"),
        ),
    ] = "",
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
    from baremetal.cli import noderamdisk

    noderamdisk.register(app)
    for verb, meaning in PLAIN_VERBS.items():
        app.command(verb)(asking(_plain(verb, meaning)))
    app.command("clean")(asking(clean, LONG_S))
    app.command("deploy")(asking(_deploy("deploy")))
    app.command("rebuild")(asking(_deploy("rebuild")))
    app.command("confirm")(done_by_hand)
    app.command("power")(power)
    app.command("boot-device")(boot_device)
