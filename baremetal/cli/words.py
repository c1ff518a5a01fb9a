"""Words of the command line shared by nouns: options, key=value pairs, completion of names."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.errors import UsageError


def _complete(path: str, key: str, incomplete: str, field: str = "name") -> list[str]:
    """Names of the server's things for the shell; nothing when the server is away."""
    from baremetal.cli.client import Client
    from baremetal.errors import BaremetalError

    try:
        found = Client.default().get(path)[key]
    except (BaremetalError, KeyError, TypeError):
        return []
    return [str(one[field]) for one in found if str(one.get(field) or "").startswith(incomplete)]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Completion of one of a few words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def complete_nodes(incomplete: str) -> list[str]:
    """Names of nodes."""
    return _complete("/api/nodes?limit=1000", "nodes", incomplete)


def complete_images(incomplete: str) -> list[str]:
    """Names of images."""
    return _complete("/api/images", "images", incomplete)


def complete_methods(incomplete: str) -> list[str]:
    """How disks are cleaned."""
    from baremetal.config import CLEAN_METHODS

    return [method for method in CLEAN_METHODS if method.startswith(incomplete)]


def complete_networks(incomplete: str) -> list[str]:
    """Names of networks."""
    return _complete("/api/networks", "networks", incomplete)


def complete_allocations(incomplete: str) -> list[str]:
    """Names of allocations."""
    return _complete("/api/allocations", "allocations", incomplete)


def complete_webhooks(incomplete: str) -> list[str]:
    """Names of webhooks."""
    return _complete("/api/webhooks", "webhooks", incomplete)


def complete_kinds(incomplete: str) -> list[str]:
    """Kinds of events."""
    from baremetal.model.event import Kind

    return [str(kind) for kind in Kind if kind.startswith(incomplete)]


def complete_rules(incomplete: str) -> list[str]:
    """Names of inspection rules."""
    return _complete("/api/inspection/rules", "rules", incomplete)


def complete_skus(incomplete: str) -> list[str]:
    """Names of SKUs."""
    return _complete("/api/inspection/skus", "skus", incomplete)


def state_names() -> list[str]:
    """States as Ironic and we name them."""
    from baremetal.lifecycle import IRONIC_NAMES
    from baremetal.model.node import State

    return sorted({str(state) for state in State} | set(IRONIC_NAMES.values()))


def complete_states(incomplete: str) -> list[str]:
    """States for the shell."""
    return [name for name in state_names() if name.startswith(incomplete)]


def checked_state(name: str) -> str:
    """The state, or an error that names the nearest."""
    from baremetal.config import nearest

    known = state_names()
    if name and name not in known:
        raise UsageError(f"there is no state {name!r}{nearest(name, known)}", fix=f"one of {', '.join(known)}")
    return name


Json = Annotated[bool, typer.Option("--json", "--yaml", help="One document on stdout, as JSON or as YAML.")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Name or id.", autocompletion=complete_nodes)]
NodeNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NODE]...", help="Names, ids or ranges like r1-u[01-40].", autocompletion=complete_nodes),
]
Where = Annotated[
    str,
    typer.Option(
        "--where", help="Like 'class=compute and state=available', 'fault and not maintenance', label.rack=r1."
    ),
]
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
            raise UsageError(f"{what} {word!r} is not key=value", fix=_like(what, "role=compute"))
        if "" in key.split("."):
            raise UsageError(f"{what} {word!r}: a part of its key is empty", fix="write it like network.dns=10.0.0.1")
        _place(doc, key.split("."), value_of(text), what)
    return doc


LIKE = {"--disk": "serial=S3X12", "--root-device": "serial=S3X12", "metadata": "greeting=hello"}


def _like(what: str, otherwise: str) -> str:
    example = LIKE.get(what, otherwise)
    return f"write it like {what} {example}" if what.startswith("-") else f"write it like {example}"


def flat_pairs(words: Iterable[str] | None, what: str) -> dict[str, Any]:
    """key=value words whose keys keep their dots."""
    doc = {}
    for word in words or ():
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{what} {word!r} is not key=value", fix=_like(what, "rack=r1"))
        doc[key] = value_of(text)
    return doc


def value_of(text: str) -> Any:
    """JSON where it is JSON (numbers, true, null, lists, objects, quoted text), else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> None:
    """NaN and Infinity are Python's, not JSON's: whoever reads them next refuses them."""
    raise ValueError(name)


DEEPEST = 64  # dots in a key
LARGEST = 16 << 20  # characters of a file that a person wrote


def _place(doc: dict[str, Any], path: list[str], value: Any, what: str) -> None:
    if len(path) > DEEPEST:
        raise UsageError(f"{what} nests {len(path)} deep", fix=f"at most {DEEPEST} dots in a key")
    for name in path[:-1]:
        doc = doc.setdefault(name, {})
        if not isinstance(doc, dict):
            raise UsageError(f"{what}: {name!r} has a value already and cannot hold others")
    doc[path[-1]] = value


def document(path: Path) -> Any:
    """A JSON or YAML file; "-" is stdin."""
    text = _small_text(path)
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise UsageError(f"{path}: nested too deep", fix="a file that a person could read") from None
    except ValueError:
        return _yaml(text, path)


def _small_text(path: Path) -> str:
    """What is in a file that a person wrote; it may be a device that never ends."""
    try:
        with contextlib.ExitStack() as stack:
            file = sys.stdin if str(path) == "-" else stack.enter_context(path.open(encoding="utf-8"))
            text = file.read(LARGEST + 1)
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read {path}: {exc}") from exc
    if len(text) > LARGEST:
        raise UsageError(f"{path} is longer than {LARGEST >> 20} MiB", fix="a file that a person could read")
    return text


def _yaml(text: str, path: Path) -> Any:
    import yaml

    from baremetal.model.treesize import too_large

    try:
        doc = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as exc:
        raise UsageError(f"{path} is neither JSON nor YAML", detail=str(exc)) from exc
    except RecursionError:
        raise UsageError(f"{path}: nested too deep", fix="a file that a person could read") from None
    if why := too_large(doc):
        raise UsageError(f"{path}: {why}", fix="a file that a person could read")
    return doc


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
