"""`baremetal api …`: tokens and users of the TCP API, and its OpenAPI document."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json, one_of
from baremetal.errors import MachineError, NotFound, UsageError

app = typer.Typer(help="Tokens and users of the TCP API (api_listen), its OpenAPI document.")
token = typer.Typer(no_args_is_help=True, help="Tokens: shown once, stored hashed.")
user = typer.Typer(no_args_is_help=True, help="Users with passwords, in an htpasswd file.")
app.add_typer(token, name="token")
app.add_typer(user, name="user")

NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
Role = Annotated[
    str,
    typer.Option("--role", help="admin, operator or observer.", autocompletion=one_of("admin", "operator", "observer")),
]
Project = Annotated[
    str, typer.Option("--project", help="Sees only nodes whose owner or lessee this is (node label or /v1 field).")
]


@app.callback(invoke_without_command=True)
def operations(context: typer.Context) -> None:
    """Tokens and users of the TCP API; without a command: every operation the running server has."""
    if context.invoked_subcommand is None:
        from baremetal.cli.apipage import listing

        listing()


@app.command()
def page(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1 [any free one].")] = 0,
    write: Annotated[Path | None, typer.Option("--write", help="Write the HTML to this file instead.")] = None,
) -> None:
    """The OpenAPI document as a page, on this machine only; needs no network. Ctrl-C ends it."""
    from baremetal.cli.apipage import serve

    serve(port, write)


@app.command()
def openapi() -> None:
    """The OpenAPI document of the running server."""
    from baremetal.cli.client import Client

    render.json_out(Client.default().get("/api/openapi.json"))


def _tokens(incomplete: str) -> list[str]:
    return [e["name"] for e in _load(_directory() / "api-tokens.json") if e["name"].startswith(incomplete)]


def _users(incomplete: str) -> list[str]:
    names = [line.partition(":")[0] for line in _lines(_directory() / "htpasswd")]
    return [name for name in names if name.startswith(incomplete)]


@token.command("add")
def token_add(
    name: Annotated[str, typer.Argument()], role: Role = "operator", project: Project = "", as_json: Json = False
) -> None:
    """Make a token and print it, this once."""
    _check(name, role)
    path = _directory() / "api-tokens.json"
    entries = [e for e in _load(path) if e["name"] != name]
    text = secrets.token_urlsafe(32)
    digest = hashlib.sha256(text.encode()).hexdigest()
    entry = {"name": name, "role": role, "sha256": digest, "created": int(time.time())}
    _save(path, [*entries, entry | ({"project": project} if project else {})])
    render.json_out({"name": name, "role": role, "token": text}) if as_json else print(text)


@token.command("list")
@listing
def token_list(listed: Listed) -> None:
    """Names, roles and ages."""
    rows = [
        {"name": e["name"], "role": e["role"], "project": e.get("project", ""), "created": e["created"]}
        for e in _load(_directory() / "api-tokens.json")
    ]

    def row(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {"created": render.clock(entry["created"])}

    listed.show({"tokens": rows}, "tokens", ["name", "role", "project", "created"], row=row, empty="no tokens")


@token.command("revoke")
def token_revoke(name: Annotated[str, typer.Argument(autocompletion=_tokens)], as_json: Json = False) -> None:
    """End a token; it is refused from the next request on."""
    path = _directory() / "api-tokens.json"
    entries = _load(path)
    left = [e for e in entries if e["name"] != name]
    if len(left) == len(entries):
        raise NotFound(f"there is no token {name!r}", fix="baremetal api token list")
    _save(path, left)
    render.json_out({"revoked": name}) if as_json else render.note(f"{name}: revoked")


@user.command("add")
def user_add(
    name: Annotated[str, typer.Argument()],
    role: Role = "operator",
    project: Project = "",
    password_file: Annotated[Path | None, typer.Option(help="File with the password; asked for otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Add a user, or set their password."""
    from baremetal.api.auth import hash_password
    from baremetal.cli.words import password

    _check(name, role)
    text = password(password_file, "BAREMETAL_API_PASSWORD", ask=f"password of {name}: ")
    if not text or "\n" in text:
        raise UsageError("a user needs a password of one line", fix="--password-file, or a terminal")
    path = _directory() / "htpasswd"
    lines = [line for line in _lines(path) if line.partition(":")[0] != name]
    _write(path, "\n".join([*lines, f"{name}:{hash_password(text)}:{role}{project and ':' + project}"]) + "\n")
    render.json_out({"name": name, "role": role}) if as_json else render.note(f"{name}: {role}")


@user.command("list")
@listing
def user_list(listed: Listed) -> None:
    """Names and roles."""
    parts = [line.split(":") for line in _lines(_directory() / "htpasswd") if line and not line.startswith("#")]
    rows = [
        {"name": part[0], "role": part[2] if len(part) > 2 else "operator", "project": part[3] if len(part) > 3 else ""}
        for part in parts
    ]
    listed.show({"users": rows}, "users", ["name", "role", "project"], empty="no users")


@user.command("remove")
def user_remove(name: Annotated[str, typer.Argument(autocompletion=_users)], as_json: Json = False) -> None:
    """Remove a user."""
    path = _directory() / "htpasswd"
    lines = _lines(path)
    left = [line for line in lines if line.partition(":")[0] != name]
    if len(left) == len(lines):
        raise NotFound(f"there is no user {name!r}", fix="baremetal api user list")
    _write(path, "".join(f"{line}\n" for line in left))
    render.json_out({"removed": name}) if as_json else render.note(f"{name}: removed")


def _directory() -> Path:
    from baremetal.config import Settings

    return Settings.load().keys_dir


def _check(name: str, role: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name", fix="letters, digits and . _ @ -")
    if role not in ("admin", "operator", "observer"):
        raise UsageError(f"{role!r} is no role", fix="admin, operator or observer")


def _load(path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text())
        return found
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as exc:
        raise MachineError(f"cannot read {path}", detail=str(exc), fix="run as root") from exc


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise MachineError(f"cannot read {path}", detail=str(exc), fix="run as root") from exc


def _save(path: Path, entries: list[dict[str, Any]]) -> None:
    _write(path, json.dumps(entries, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    """0600, whole, and owned as the directory is: the control process reads it without root."""
    import os

    from baremetal.serve.tls import write_private

    try:
        write_private(path, text.encode())
        owner = path.parent.stat()
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as exc:
        raise MachineError(f"cannot write {path}: {exc.strerror}", fix="run as root, after: baremetal init") from exc
