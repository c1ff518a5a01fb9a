"""Words of the command line shared by nouns: options, key=value pairs, completion of names."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.errors import UsageError


def complete_nodes(incomplete: str) -> list[str]:
    """Names of nodes for the shell; nothing when the server is away."""
    from baremetal.cli.client import Client
    from baremetal.errors import BaremetalError

    try:
        found = Client.default().get("/api/nodes", limit=1000)["nodes"]
    except (BaremetalError, KeyError, TypeError):
        return []
    return [node["name"] for node in found if node["name"].startswith(incomplete)]


def complete_states(incomplete: str) -> list[str]:
    """States as Ironic and we name them."""
    from baremetal.lifecycle import IRONIC_NAMES
    from baremetal.model.node import State

    names = {str(state) for state in State} | set(IRONIC_NAMES.values())
    return sorted(name for name in names if name.startswith(incomplete))


def complete_images(incomplete: str) -> list[str]:
    """Names of images for the shell."""
    from baremetal.cli.client import Client
    from baremetal.errors import BaremetalError

    try:
        found = Client.default().get("/api/images")["images"]
    except (BaremetalError, KeyError, TypeError):
        return []
    return [image["name"] for image in found if image["name"].startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", "--yaml", help="One document on stdout, as JSON or as YAML.")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Name or id.", autocompletion=complete_nodes)]
NodeNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NODE]...", help="Names, ids or ranges like r1-u[01-40].", autocompletion=complete_nodes),
]
Where = Annotated[str, typer.Option("--where", help="Filter like 'class=compute and state=available'.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", "-w", help="Wait until it is done or has failed.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Longest wait in seconds.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def pairs(words: Iterable[str] | None, what: str) -> dict[str, Any]:
    """key=value words; a value that is JSON is taken as such, dotted keys nest."""
    doc: dict[str, Any] = {}
    for word in words or ():
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{what} {word!r} is not key=value", fix=f"write it like {what} role=compute")
        _place(doc, key.split("."), value_of(text), what)
    return doc


def flat_pairs(words: Iterable[str] | None, what: str) -> dict[str, Any]:
    """key=value words whose keys keep their dots."""
    doc = {}
    for word in words or ():
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{what} {word!r} is not key=value", fix=f"write it like {what} rack=r1")
        doc[key] = value_of(text)
    return doc


def value_of(text: str) -> Any:
    """JSON where it is JSON (numbers, true, null, lists, objects, quoted text), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _place(doc: dict[str, Any], path: list[str], value: Any, what: str) -> None:
    for name in path[:-1]:
        doc = doc.setdefault(name, {})
        if not isinstance(doc, dict):
            raise UsageError(f"{what}: {name!r} has a value already and cannot hold others")
    doc[path[-1]] = value


def document(path: Path) -> Any:
    """A JSON or YAML file; "-" is stdin."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read {path}: {exc}") from exc
    try:
        return json.loads(text)
    except ValueError:
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as exc:
            raise UsageError(f"{path} is neither JSON nor YAML", detail=str(exc)) from exc


def password(file: Path | None, env: str, *, ask: str = "") -> str | None:
    """A password from a file, a variable, or the terminal; never from the command line."""
    if file is not None:
        try:
            return file.read_text().removesuffix("\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"cannot read the password file {file}: {exc}") from exc
    if env in os.environ:
        return os.environ[env]
    if ask and sys.stdin.isatty():
        import getpass

        return getpass.getpass(ask)
    return None


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere --yes is needed."""
    from baremetal.errors import Refused

    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} Nothing was done.", fix="say --yes")
    typer.confirm(question, abort=True, err=True)
