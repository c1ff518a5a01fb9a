"""Verbs of a node that have words of their own for the ramdisk: inspect, provide, rescue, service, adopt, raid."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.asked import LONG_S, Asked, asking
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import Json, NodeName, complete_images, complete_methods, document, one_of
from baremetal.errors import UsageError

Steps = Annotated[Path | None, typer.Option(help="JSON or YAML list of steps.")]
LEVELS = ("0", "1", "5", "6", "10")
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another on a serial console


def inspect(
    asked: Asked,
    lldp: Annotated[
        float, typer.Option(help="Seconds to wait for switches to say who they are; they do every 30.")
    ] = 0,
) -> None:
    """Boot the ramdisk and read the hardware; rules and SKUs judge it. Never writes to a disk."""
    args = {"lldp_s": lldp} if lldp else {}
    asked.ask("inspect", args)


def provide(
    asked: Asked,
    method: Annotated[
        str, typer.Option(help="metadata, zero, discard, secure or best.", autocompletion=complete_methods)
    ] = "",
    erase_foreign: Annotated[bool, typer.Option("--erase-foreign", help="Also data that was never ours.")] = False,
    steps: Steps = None,
) -> None:
    """Clean the listed disks and make the node available.

    Disks that this server never erased or wrote, and that hold data, are left
    alone and named; --erase-foreign gives them up.
    """
    args: dict[str, Any] = {"method": method, "erase_foreign": erase_foreign}
    if steps:
        args["steps"] = document(steps)
    args = {k: v for k, v in args.items() if v}
    asked.ask("provide", args)


def rescue(
    asked: Asked,
    password: Annotated[bool, typer.Option("--password/--no-password", help="A one-time password is shown.")] = True,
    key: Annotated[Path | None, typer.Option(help="File with an SSH public key; needs an --ssh option.")] = None,
    ssh_dial: Annotated[str, typer.Option(help="HOST:PORT that the node connects to, where your client waits.")] = "",
    ssh_listen: Annotated[int, typer.Option(help="Port the node may listen on: your approval of an open port.")] = 0,
) -> None:
    """Boot deployed nodes into the rescue ramdisk; root logs in on the serial console, by a one-time password.

    No port is open unless you say so. Password and keys live in the ramdisk's memory only.

    \b
    Examples:
      baremetal node rescue r1-u07 --wait          then: baremetal node console r1-u07
      baremetal node rescue r1-u07 --key ~/.ssh/id_ed25519.pub --ssh-dial 10.0.0.5:2222
        where you wait for it:  ssh -o ProxyCommand='nc -l -p 2222' root@r1-u07
    """
    args: dict[str, Any] = {}
    word = "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(4)) if password else ""
    if word:
        args["password"] = word
    if key:
        args["authorized_keys"] = [_key(key)]
    if ssh_dial and ssh_listen:
        raise UsageError("--ssh-dial or --ssh-listen, not both")
    if key and not (ssh_dial or ssh_listen):
        raise UsageError("a key without ssh lets nobody in", fix="--ssh-dial HOST:PORT, or --ssh-listen PORT")
    if ssh_dial:
        args["ssh"] = {"dial": ssh_dial}
    elif ssh_listen:
        args["ssh"] = {"listen": ssh_listen}
    if word and not asked.dry_run:
        render.note(f"one-time password of root: {word}")
    asked.ask("rescue", args)


def _key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read the key {path}: {exc}") from exc


def service(
    asked: Asked,
    script: Annotated[
        list[str] | None, typer.Option(help="Program of an element: NAME or NAME={JSON arguments}; may repeat.")
    ] = None,
    inventory: Annotated[bool, typer.Option("--inventory", help="Read the hardware again.")] = False,
    steps: Steps = None,
) -> None:
    """Boot deployed nodes into the ramdisk, do in-band work there, boot their own system again.

    \b
    Examples:
      baremetal node service r1-u07 --script nic-firmware --wait
      baremetal node service r1-u07 --inventory --wait
    """
    work = list(document(steps)) if steps else []
    work += [{"step": "run_script", "priority": 90 - n, "args": _script(s)} for n, s in enumerate(script or ())]
    if inventory:
        work.append({"step": "collect_inventory", "priority": 45, "args": {}})
    args = {"steps": work} if work else {}
    asked.ask("service", args)


def _script(text: str) -> dict[str, Any]:
    name, equals, given = text.partition("=")
    if not equals:
        return {"script": name}
    try:
        return {"script": name, "args": json.loads(given)}
    except ValueError as exc:
        raise UsageError(f"--script {name}: its arguments are no JSON: {exc}") from None


def adopt(
    asked: Asked,
    image: Annotated[str, typer.Option("--image", "-i", help="What runs on it.", autocompletion=complete_images)] = "",
) -> None:
    """Take over machines that run already: they become active as they are, nothing on them is touched."""
    args = {"image": image} if image else {}
    asked.ask("adopt", args)


def raid(
    node: NodeName,
    level: Annotated[
        str, typer.Option(help="0, 1, 5, 6 or 10, over all local disks.", autocompletion=one_of(*LEVELS))
    ] = "",
    file: Annotated[Path | None, typer.Option(help="JSON or YAML as Ironic's target_raid_config.")] = None,
    none: Annotated[bool, typer.Option("--none", help="No RAID is wanted any more.")] = False,
    as_json: Json = False,
) -> None:
    """The software RAID a node should have: shown, or set. It is made at the next clean (provide).

    \b
    Examples:
      baremetal node raid r1-u07 --level 1
      baremetal node provide r1-u07 --wait
    """
    if sum((bool(level), bool(file), none)) > 1:
        raise UsageError("one of --level, --file and --none")
    if level and level not in LEVELS:
        raise UsageError(f"no software RAID of level {level!r}", fix=f"one of {', '.join(LEVELS)}")
    client = Client.default()
    doc = client.get(node_path(node))
    if level or file or none:
        wanted = document(file) if file else {"logical_disks": [{"raid_level": level, "size_gb": "MAX"}]}
        properties = {k: v for k, v in doc["properties"].items() if k != "raid"}
        doc = client.patch(node_path(node), {"properties": properties | ({} if none else {"raid": wanted})})
    found = doc["properties"].get("raid")
    render.json_out({"raid": found}) if as_json else print(_raid(found))


def _raid(found: dict[str, Any] | None) -> str:
    """One line a disk that is wanted."""
    disks = (found or {}).get("logical_disks") or []
    lines = [
        f"RAID {d.get('raid_level')}, {d.get('size_gb')}" + (" GB" if d.get("size_gb") != "MAX" else "") for d in disks
    ]
    return "\n".join(lines) or "no RAID is wanted"


def register(app: typer.Typer) -> None:
    """Add the commands to `node`."""
    quick: dict[str, Callable[..., None]] = {"inspect": inspect, "rescue": rescue, "adopt": adopt}
    for name, command in quick.items():
        app.command(name)(asking(command))
    app.command("provide")(asking(provide, LONG_S))
    app.command("service")(asking(service, LONG_S))
    app.command("raid")(raid)
