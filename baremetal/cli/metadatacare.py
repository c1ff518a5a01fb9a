"""`metadata history`, `rollback`, `schema …`, `secret …`, and the editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json, complete_nodes, document
from baremetal.errors import UsageError

Node = Annotated[
    str, typer.Argument(metavar="[NODE]", help="Leave it out for another layer.", autocompletion=complete_nodes)
]
Site = Annotated[bool, typer.Option("--site", help="Of the whole site.")]
Defaults = Annotated[bool, typer.Option("--defaults", help="The lowest layer.")]
Role = Annotated[str, typer.Option("--role", help="Of this role.")]

schema = typer.Typer(no_args_is_help=True, help="What values are allowed: JSON schemas of the site and of roles.")
secret = typer.Typer(no_args_is_help=True, help='Secrets that values refer to: {"$secret": "NAME"}.')


def register(app: typer.Typer) -> None:
    """Add the commands to `metadata`."""
    app.command()(history)
    app.command()(rollback)


def history(
    node: Node = "",
    site: Site = False,
    defaults: Defaults = False,
    role: Role = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Who changed which layer, when, and what; of a node: of all its layers."""
    asked = {"node": node} if node else _place(site, defaults, role)
    changes = Client.default().get("/api/metadata-history", limit=limit, **asked)["changes"]
    if as_json:
        render.json_out({"changes": changes})
        return
    for change in changes:
        change["when"] = f"{render.ago(change['at'])} ago"
        change["where"] = f"{change['layer']} {change['name']}".strip()
        change["what"] = [_told(d) for d in change["differences"][:6]] + (["…"] if change["differences"][6:] else [])
    render.table(changes, ["id", "when", "by", "where", "what", "why"], empty="never changed")


def rollback(
    node: Node = "",
    site: Site = False,
    defaults: Defaults = False,
    role: Role = "",
    to: Annotated[int | None, typer.Option("--to", help="The number of a change: as it was after that one.")] = None,
    as_json: Json = False,
) -> None:
    """Make one layer what it was before its last change, or after an earlier one. The nodes follow at once.

    Of a node: its own layer.
    """
    place = {"layer": "node", "name": node} if node else _place(site, defaults, role)
    doc = Client.default().post("/api/metadata-rollback", {**place, "to": to})
    if as_json:
        render.json_out(doc)
        return
    for entry in doc["nodes_changed"]:
        render.note(f"{entry['node']}: generation {entry['generation']}")
    if not doc["nodes_changed"]:
        render.note("stored; no node's document changed")


def in_editor(values: dict[str, Any], title: str) -> dict[str, Any]:
    """What the operator makes of these values."""
    import yaml

    text = f"# metadata of {title}; saving an empty file removes every value\n"
    text += yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else ""
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="baremetal-edit-") as directory:
        path = Path(directory) / "metadata.yaml"
        path.touch(0o600)
        path.write_text(text)
        try:
            done = subprocess.run([*editor, str(path)], check=False)
        except OSError as exc:
            raise UsageError(f"the editor {editor[0]} does not start: {exc.strerror}", fix="set EDITOR") from exc
        if done.returncode != 0:
            raise UsageError(f"the editor ended with status {done.returncode}: nothing was stored")
        found = document(path)
    if found is not None and not isinstance(found, dict):
        raise UsageError("metadata is a mapping of names to values: nothing was stored")
    return found or {}


@schema.command("set")
def set_schema(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON or YAML; - is stdin.")],
    site: Site = False,
    role: Role = "",
    as_json: Json = False,
) -> None:
    """Refuse from now on what this JSON schema forbids; refused itself when a node breaks it already."""
    place = _place(site, False, role)
    doc = Client.default().put("/api/metadata-schemas", {**place, "schema": document(file)})
    render.json_out(doc) if as_json else render.note(f"schema of {_named(place)} is in force")


@schema.command("show")
def show_schemas(_json: Json = False) -> None:
    """All schemas, always as JSON or YAML."""
    render.json_out(Client.default().get("/api/metadata-schemas"))


@schema.command("unset")
def unset_schema(site: Site = False, role: Role = "", as_json: Json = False) -> None:
    """Allow everything again."""
    place = _place(site, False, role)
    doc = Client.default().put("/api/metadata-schemas", {**place, "schema": None})
    render.json_out(doc) if as_json else render.note(f"schema of {_named(place)} is gone")


Words = Annotated[
    list[str], typer.Argument(metavar="[NODE] NAME", help="Whose, unless --site or --role; and its name.")
]


@secret.command("set")
def set_secret(
    words: Words,
    site: Site = False,
    role: Role = "",
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Its value; stdin without it.")] = None,
    as_json: Json = False,
) -> None:
    """Store a secret; the value is read from stdin or a file, never from the command line."""
    if file is None and sys.stdin.isatty():
        import getpass

        value = getpass.getpass("value: ")
    else:
        value = (_text(file) if file else sys.stdin.read()).removesuffix("\n")
    doc = Client.default().put("/api/metadata-secrets", {**_owner(words, site, role), "value": value})
    render.json_out(doc) if as_json else render.note(f"stored; {doc['nodes_changed']} nodes have a new generation")


@secret.command("unset")
def unset_secret(words: Words, site: Site = False, role: Role = "", as_json: Json = False) -> None:
    """Forget a secret; refused while a node's values refer to it."""
    doc = Client.default().put("/api/metadata-secrets", {**_owner(words, site, role), "value": None})
    render.json_out(doc) if as_json else render.note(f"{words[-1]}: forgotten")


@secret.command("list")
@listing
def list_secrets(listed: Listed) -> None:
    """Names and owners, never values."""

    def row(secret: Mapping[str, Any]) -> dict[str, Any]:
        return {"set": f"{render.ago(secret['updated_at'])} ago"}

    doc = Client.default().get("/api/metadata-secrets")
    listed.show(doc, "secrets", ["owner", "name", "set"], row=row, empty="no secrets")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read {path}: {exc}") from exc


def _named(place: dict[str, str]) -> str:
    return f"role {place['name']}" if place["layer"] == "role" else f"the {place['layer']}"


def _owner(words: list[str], site: bool, role: str) -> dict[str, str]:
    layered = site or bool(role)
    if len(words) != (1 if layered else 2) or (site and role):
        raise UsageError("whose secret?", fix="NODE NAME, or --site NAME, or --role ROLE NAME")
    return {"owner": "site" if site else f"role:{role}" if role else words[0], "name": words[-1]}


def _place(site: bool, defaults: bool, role: str) -> dict[str, str]:
    if site + defaults + bool(role) != 1:
        raise UsageError("which layer?", fix="a NODE, or one of --site, --defaults, --role NAME")
    return {"layer": "role" if role else "site" if site else "defaults", "name": role}


def _told(row: dict[str, Any]) -> str:
    match row["kind"]:
        case "added":
            return f"{row['path']}={_short(row['new'])}"
        case "removed":
            return f"-{row['path']}"
    return f"{row['path']}={_short(row['new'])} (was {_short(row['old'])})"


def _short(value: Any) -> str:
    text = render.text_of(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
