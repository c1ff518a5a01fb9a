"""What was typed wrong, said as every other error: what, what was seen, what to type instead."""

from __future__ import annotations

from typing import Any

from baremetal.errors import UsageError

# Words that other tools put between a noun and the thing: `node history list r1-u07`.
FILLERS = ("list", "show", "get", "set", "save", "enable", "disable")


def told(exc: Any) -> UsageError:
    """One of Typer's exceptions as an error of ours."""
    context = getattr(exc, "ctx", None)
    path = context.command_path if context else _typed()
    below = path.partition(" ")[2]
    brief, fix = _what(exc, path, below)
    if not fix:
        fix = (_example(context) if type(exc).__name__ == "MissingParameter" else "") or f"{path} --help"
    return UsageError(brief, fix=fix)


def _typed() -> str:
    """The command that was typed, as far as it is one."""
    import sys

    import typer

    from baremetal.cli.app import app

    command, path = typer.main.get_command(app), "baremetal"
    for word in sys.argv[1:]:
        below = command.get_command(None, word) if hasattr(command, "get_command") else None
        if below is not None:
            command, path = below, f"{path} {word}"
    return path


def unknown_noun(word: str, known: list[str]) -> UsageError:
    """No such first word; with what it is called here, or the nearest."""
    from baremetal.cli import habits
    from baremetal.config import nearest

    hint = habits.noun(word, _verbs_of_nodes())
    near = "" if hint else nearest(word, known)
    return UsageError(f"there is no command {word!r}{near}", fix=hint or "baremetal --help")


def _what(exc: Any, path: str, below: str) -> tuple[str, str]:
    """(what happened, what to type; empty: an example, or the help)."""
    from baremetal.cli import habits

    kind, message = type(exc).__name__, str(exc.message).removesuffix(".")
    if kind == "NoSuchOption":
        near = sorted(exc.possibilities or ())
        hint = habits.option(below, exc.option_name)
        return f"{path}: no option {exc.option_name}" + ("" if hint else _mean(near)), hint
    if message.startswith("No such command "):
        word = message.split("'")[1] if "'" in message else message
        near = message.partition("Did you mean")[2].split("'")[1::2]
        hint = habits.verb(below, word)
        return f"{path}: no command {word!r}" + ("" if hint else _mean(near)), hint
    if message.startswith("Got unexpected extra argument"):
        return f"{path}: {message[0].lower()}{message[1:]}", _without_filler(exc, path)
    said = exc.format_message().removesuffix(".")
    return f"{path}: {said[0].lower()}{said[1:]}".replace(". Choose from:\n\t", ": ").replace(",\n\t", ", "), ""


def _mean(near: list[str]) -> str:
    return f" (did you mean {', '.join(near[:3])}?)" if near else ""


def _without_filler(exc: Any, path: str) -> str:
    """`node history list r1-u07` was meant as `node history r1-u07`."""
    import sys

    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    after = words[len(path.split()) - 1 :]
    return " ".join([path, *after[1:]]) if after[:1] and after[0] in FILLERS else ""


def _example(context: Any) -> str:
    """The first example of the command."""
    from baremetal.cli import examples

    found = examples.of(context.command_path, getattr(context.command, "help", "")) if context else ()
    return f"like: {found[0].partition('   ')[0]}" if found else ""


def _verbs_of_nodes() -> set[str]:
    import typer

    from baremetal.cli import node

    return set(typer.main.get_command(node.app).commands)  # type: ignore[attr-defined]
