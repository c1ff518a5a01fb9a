"""`baremetal db`: backup and check while the server runs, restore while it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.words import Json, Yes, confirm
from baremetal.errors import EXIT_FAILED

app = typer.Typer(no_args_is_help=True, help="Database: backup, check, restore, move to PostgreSQL.")


@app.command()
def backup(
    name: Annotated[str, typer.Argument(help="File name in backups/ of the state directory [date and time].")] = "",
    as_json: Json = False,
) -> None:
    """A consistent copy, while the server runs. Keep the keys/ directory with it: secrets are sealed with them."""
    doc = Client.default().post("/api/db/backup", {"name": name} if name else {})
    render.json_out(doc) if as_json else print(f"{doc['path']}  {doc['bytes'] / 1e6:.1f} MB")


@app.command()
def check(as_json: Json = False) -> None:
    """Pages, references, rows, secrets. Exit code 1 when something is wrong."""
    doc = Client.default().get("/api/db/check")
    if as_json:
        render.json_out(doc)
    else:
        print("\n".join(doc["problems"]) or "sound")
    if not doc["ok"]:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def move(
    url: Annotated[str, typer.Argument(help="postgresql://user@host/name of an empty database.")],
    config: Annotated[str, typer.Option("--config", "-c", help="Configuration file.")] = "",
    as_json: Json = False,
) -> None:
    """Carry the SQLite database over to PostgreSQL, compared row by row; the server must be down.

    All or nothing: when it is cut off, the SQLite database is as it was and the other one is empty.
    """
    from baremetal.cli.settings import config_path
    from baremetal.config import Settings, is_postgres
    from baremetal.errors import UsageError
    from baremetal.store.move import move as move_rows

    settings = Settings.load(config_path(config) if config else None)
    if is_postgres(settings.database):
        raise UsageError("the configuration names a PostgreSQL database already", fix="take the line out for the move")
    path = Path(settings.database_url.removeprefix("sqlite:///"))
    moved = move_rows(path, url, tell=lambda line: None if as_json else render.note(line))
    if as_json:
        render.json_out({"rows": moved.rows, "digest": moved.digest})
        return
    print(f"moved {sum(moved.rows.values())} rows, both databases are equal (digest {moved.digest[:16]})")
    print(f'now write into the configuration:  database = "{url}"')


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    config: Annotated[str, typer.Option("--config", "-c", help="Configuration file.")] = "",
) -> None:
    """Put a backup in place of the database; the server must be down. The old file is kept beside it."""
    from baremetal.cli.settings import config_path
    from baremetal.config import Settings
    from baremetal.store import care

    settings = Settings.load(config_path(config) if config else None)
    old = care.restore(settings.database_url, file)
    print(f"restored {file}" + (f"; the old database is {old}" if old else ""))


@app.command("rotate-keys")
def rotate_keys(
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """New sealing keys for BMC passwords and metadata; everything sealed is sealed anew. The server must be down.

    All or nothing. Backups made before need the old keys, which stay beside the new ones as *.key.old.
    """
    from baremetal.config import Settings
    from baremetal.serve.rotate import rotate

    confirm("Seal everything with new keys?", yes=yes)
    done = rotate(Settings.load())
    doc = {"sealed_anew": done.count, "old_keys": done.old}
    render.json_out(doc) if as_json else print(f"{done.count} secrets sealed anew; old keys: {', '.join(done.old)}")
