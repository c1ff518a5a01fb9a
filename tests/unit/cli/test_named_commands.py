"""Every `baremetal …` that an error, a fault or a page of help names exists, with the options it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from baremetal.cli.app import NOUNS, app

ROOT = Path(__file__).parents[3] / "baremetal"
FILLED_IN = re.compile(r"\{[^{}\n]*\}")
# A command ends where prose begins.
WORD = r"(?:--?[a-z][a-z-]*|[a-z][a-z-]+|[A-Z][A-Z./:_-]*|'[^' ]*')"
COMMAND = re.compile(rf"\bbaremetal {WORD}(?: {WORD})*(?=[ ,;:.)\n\"'`\\])")


BELOW: dict[tuple[str, str], Any] = {}  # making a noun's commands takes 50 ms


def named() -> list[tuple[str, str]]:
    found = set()
    for path in ROOT.rglob("*.py"):
        if "agents" in path.parts:
            continue
        text = FILLED_IN.sub("X", path.read_text())
        found |= {(hit.group(0), str(path.relative_to(ROOT))) for hit in COMMAND.finditer(text)}
    return sorted(found)


def wrong(command: Any, words: list[str], said: str) -> str:
    """Why these words are no call of this command; empty when they are, as far as they go."""
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "--config", "--server"}
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            if word not in known:
                return f"{said} has no option {word}"
        elif hasattr(command, "get_command"):
            if word == "X" or word.isupper() or (said == "baremetal" and word not in NOUNS):
                return ""  # which one depends, or it is prose
            below = BELOW[said, word] = BELOW.get((said, word)) or command.get_command(None, word)
            if below is None:
                return f"{said} has no command {word}"
            return wrong(below, words, f"{said} {word}")
    return ""


def test_every_command_we_name_exists() -> None:
    root, found = typer.main.get_command(app), named()
    assert len(found) > 100
    bad = [f"{where}: {text!r}: {why}" for text, where in found if (why := wrong(root, text.split()[1:], "baremetal"))]
    assert not bad, "\n".join(bad)
