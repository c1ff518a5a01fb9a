"""`node set`: what is known of nodes, by options or by FIELD=VALUE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.asked import FLEET, expand
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import Json, Where, Yes, complete_nodes, confirm, flat_pairs, one_of, pairs, password
from baremetal.errors import UsageError

FIELDS = ("name", "bmc_url", "resource_class", "firmware", "arch", "serial")
SHORT = {"bmc": "bmc_url", "class": "resource_class"}  # as the options are called


def set_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NODE]... [FIELD=VALUE]...",
            help=f"Names, ids or ranges; fields: {', '.join(FIELDS)}.",
            autocompletion=complete_nodes,
        ),
    ] = None,
    where: Where = "",
    name: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    bmc: Annotated[str | None, typer.Option("--bmc", help="BMC's URL, like ipmi://admin@10.0.0.17.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="BMC user, where the URL of --bmc has none.")] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="File with the BMC password that is in force already.")
    ] = None,
    resource_class: Annotated[str | None, typer.Option("--class", "--resource-class", help="Resource class.")] = None,
    firmware: Annotated[
        str | None,
        typer.Option("--firmware", help="bios, uefi or unknown.", autocompletion=one_of("bios", "uefi", "unknown")),
    ] = None,
    arch: Annotated[
        str | None, typer.Option("--arch", help="x86_64 or aarch64.", autocompletion=one_of("x86_64", "aarch64"))
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="key=value; empty value removes.")] = None,
    prop: Annotated[
        list[str] | None, typer.Option("--property", "-p", help="key=value of properties; empty value removes.")
    ] = None,
    trait: Annotated[list[str] | None, typer.Option("--trait", help="Replaces all traits; '' removes them.")] = None,
    root_device: Annotated[
        list[str] | None, typer.Option("--root-device", help="Hint like serial=S3X or size=>=100.")
    ] = None,
    mac: Annotated[list[str] | None, typer.Option("--mac", help="Replaces the ports' addresses.")] = None,
    protected: Annotated[bool | None, typer.Option("--protected/--unprotected", help="Refuse to release it.")] = None,
    retired: Annotated[bool | None, typer.Option("--retired/--not-retired", help="Never give it out again.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Change what is known of nodes; not their state."""
    change = _fields([word for word in words or () if "=" in word])
    secret = password(password_file, "") if password_file else None
    given = {
        "name": name,
        "bmc_url": bmc,
        "username": user,
        "password": secret,
        "resource_class": resource_class,
        "firmware": firmware,
        "arch": arch,
        "traits": None if trait is None else [t for t in trait if t],
        "root_device": flat_pairs(root_device, "--root-device") if root_device else None,
        "macs": mac,
        "protected": protected,
        "retired": retired,
    }
    change |= {key: value for key, value in given.items() if value is not None}
    labels = {k: str(v) for k, v in flat_pairs(label, "--label").items()}
    properties = pairs(prop, "--property")
    nodes = expand([word for word in words or () if "=" not in word], where)
    told = [*change, *(["labels"] if labels else []), *(["properties"] if properties else [])]
    if not told:
        raise UsageError("nothing to change was named", fix="baremetal node set --help")
    if len(nodes) > FLEET:
        confirm(f"Set {', '.join(told)} of {len(nodes)} nodes?", yes=yes)
    docs = [_change(node, change, labels, properties) for node in nodes]
    if as_json:
        render.json_out(docs[0] if len(docs) == 1 else {"nodes": docs})
        return
    for doc in docs:
        render.note(f"{doc['name']}: {', '.join(told)} set")
    if not docs:
        render.note("no node matches")


def _fields(words: list[str]) -> dict[str, Any]:
    from baremetal.config import nearest

    parts = [word.partition("=") for word in words]
    change = {SHORT.get(key, key): value for key, _, value in parts}
    for key in change:
        if key not in FIELDS:
            raise UsageError(
                f"no settable field {key}{nearest(key, FIELDS)}", fix=f"one of {', '.join(FIELDS)}, or an option"
            )
    return dict(change)


def _change(node: str, change: dict[str, Any], labels: dict[str, Any], properties: dict[str, Any]) -> Any:
    client, body = Client.default(), dict(change)
    if labels or properties:
        now = client.get(node_path(node))
        body |= {"labels": _merged(now["labels"], labels)} if labels else {}
        body |= {"properties": _merged(now["properties"], properties)} if properties else {}
    return client.patch(node_path(node), body)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """New keys win; an empty or null value removes."""
    return {k: v for k, v in {**old, **new}.items() if v not in ("", None)}


def register(app: typer.Typer) -> None:
    """Add the command to `node`."""
    app.command("set")(set_)
