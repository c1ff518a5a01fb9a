"""What people type from habit is answered with what it is called here; what hints, examples and docs name exists.

Messages of the program: test_named_commands.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from baremetal.cli import examples, habits
from baremetal.cli.app import app, run

ROOT = Path(__file__).parents[3]
ENDS = re.compile(r"[;|`(){}…]|\s#|&&|\s{3,}| > | < |: |, |\.\s|\.$|\n|\\n")
OPTION = re.compile(r"--?[A-Za-z][A-Za-z0-9-]*")
FREE = {"ssh", "exec", "agent"}  # what follows is another program's, or argparse's


def tree() -> dict[str, Any]:
    """Every command and group by its path without `baremetal`."""
    found: dict[str, Any] = {}

    def walk(command: Any, path: str) -> None:
        found[path] = command
        for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
            below = command.get_command(None, name)
            if below is not None:
                walk(below, f"{path} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found


TREE = tree()


def options_of(path: str) -> set[str]:
    known = {"--help", "-h"}
    for command in (TREE[path], TREE[""]):
        known |= {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return known


def condition_error(words: list[str]) -> str:
    """What --where cannot read; "" when it can. `rules` and prose have capitals or … for a value."""
    from baremetal.errors import UsageError
    from baremetal.workflows import where

    for index, word in enumerate(words[:-1]):
        if word == "--where" and "…" not in words[index + 1]:
            try:
                where.parse(words[index + 1])
            except UsageError as exc:
                return f"--where {words[index + 1]}: {exc.brief}"
    return ""


def wrong(text: str) -> list[str]:
    """What a command line names that does not exist: `text` begins behind the word baremetal."""
    line = ENDS.split(text, maxsplit=1)[0].strip()
    try:
        words = shlex.split(line)
    except ValueError:  # the quote of the text around it
        words = line.strip("\"'").split()
    path, rest = "", list(words)
    while rest and hasattr(TREE[path], "list_commands"):
        word = rest.pop(0)
        if word.startswith("-"):
            if word.split("=")[0] in ("--config", "--server", "-c") and "=" not in word and rest:
                rest.pop(0)
            continue
        if word in FREE:
            return []
        for one in word.split("|"):  # `lab up|down` in prose and tables
            if f"{path} {one}".strip() not in TREE:
                return [f"{path} {one}".strip()] if re.fullmatch(r"[a-z][a-z-]*", one) else []
        path = f"{path} {word.split('|')[0]}".strip()
    if path.split(" ")[-1] in FREE:
        return []
    known = options_of(path)
    if bad := condition_error(rest):
        return [f"{path} {bad}"]
    return [f"{path} {o}" for w in rest for o in re.findall(r"(?<![\w=/-])" + OPTION.pattern, w) if o not in known]


# Ironic's own command has our name; PostgreSQL's role in pg_hba.conf too.
THEIRS = re.compile(r"--os-|create$|baremetal\b")


def commands_in(text: str) -> Iterator[str]:
    """What follows the word baremetal."""
    found = (hit.group(1) for hit in re.finditer(r"(?<![\w/.-])baremetal ([a-z-][^\n]*)", text))
    return (line for line in found if not THEIRS.match(line))


def test_the_checker_sees_what_is_wrong() -> None:
    assert wrong("node list --wherre x") == ["node list --wherre"]
    assert wrong("nodes list") == ["nodes"]
    assert wrong("node lst") == ["node lst"]
    assert wrong("--config x node deploy 'r1-u[01-40]' --image=web -w; and so on --not-this") == []


HINTS = [
    *habits.NOUNS.values(),
    *(hint for verbs in habits.VERBS.values() for hint in verbs.values()),
    *(line for lines in examples.EXAMPLES.values() for line in lines),
]


@pytest.mark.parametrize("hint", sorted(set(HINTS)))
def test_what_a_hint_names_exists(hint: str) -> None:
    assert [w for part in hint.split("baremetal ")[1:] for w in wrong(part)] == []


@pytest.mark.parametrize("place", [p for p in habits.OPTIONS if p and "*" not in p])
def test_option_hints_name_options_of_that_command(place: str) -> None:
    known = options_of(place)
    for word, hint in habits.OPTIONS[place].items():
        assert word not in known, f"{place} has {word} itself"
        if hint.startswith("--where "):
            assert condition_error(shlex.split(hint.partition(", ")[0])) == ""
        own = ENDS.split(hint, maxsplit=1)[0]
        for option in OPTION.findall(own) if own.startswith("-") else ():
            assert option in known, f"{place}: {hint}"


def test_every_command_has_an_example() -> None:
    leaves = {path: c for path, c in TREE.items() if path and not hasattr(c, "list_commands")}
    without = [path for path, c in leaves.items() if not examples.of(f"baremetal {path}", c.help)]
    assert without == []
    assert set(examples.EXAMPLES) <= set(leaves)


@pytest.mark.parametrize("path", sorted(p for p, c in TREE.items() if p and not hasattr(c, "list_commands")))
def test_examples_in_docstrings_exist(path: str) -> None:
    assert [
        w for line in examples.of(f"baremetal {path}", TREE[path].help) for c in commands_in(line) for w in wrong(c)
    ] == []


def test_lists_have_the_same_options() -> None:
    lists = [path for path in TREE if path.split(" ")[-1] == "list"]
    for path in [*lists, "network leases", "network unknown"]:
        assert {"--columns", "--sort", "--no-header", "--json"} <= options_of(path), path


PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
CODE = re.compile(r"^```[^\n]*\n(.*?)^```|`([^`\n]+)`|^    (\S[^\n]*)$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name != "reference"], ids=lambda p: p.name)
def test_commands_of_the_docs_exist(page: Path) -> None:
    found = []
    for fenced, inline, indented in CODE.findall(page.read_text()):
        for command in commands_in((fenced or inline or indented).replace("\\|", "|")):
            found += [f"{w}: baremetal {command}" for w in wrong(command)]
    assert found == []


def test_one_list_of_clean_methods() -> None:
    from baremetal.agents import cleaner
    from baremetal.config import CLEAN_METHODS
    from baremetal.workflows import verbs

    assert set(CLEAN_METHODS) == set(verbs.CLEAN_METHODS) == set(cleaner.METHODS)


GUESSES = [  # words, what the answer names
    ("node list --fields name", "--columns"),
    ("node list -f json", "--json"),
    ("node list --wherre x", "did you mean --where"),
    ("node create --driver ipmi", "baremetal node enroll NAME"),
    ("node set r1 --driver-info x=y", "--bmc"),
    ("node show r1 -f json", "--json"),
    ("introspection list", "baremetal node inspect"),
    ("power on r1", "baremetal node power NODE"),
    ("port list", "baremetal node show NODE"),
    ("conductor list", "baremetal server list"),
    ("node history list r1-u07", "baremetal node history r1-u07"),
    ("node maintenance set r1-u07", "baremetal node maintenance r1-u07 'why'"),
    ("bmc power status -H x -U admin", "--user"),
    ("bmc sel list", "baremetal bmc events"),
    ("node manage r1 --wait 30", "--timeout 30"),
    ("allocation create --resource-class c", "baremetal allocation create compute"),
]


@pytest.mark.parametrize(("words", "answer"), GUESSES)
def test_guesses_are_answered(words: str, answer: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("sys.argv", ["baremetal", *words.split()])
    assert run(words.split()) == 2
    said = capsys.readouterr()
    assert answer in said.err
    assert said.out == ""


@pytest.mark.parametrize("words", [["help", "node", "list"], ["node", "list", "help"], ["node", "list", "-h"]])
def test_help_as_elsewhere(words: list[str], capsys: Any) -> None:
    assert run(words) == 0
    assert "Usage: baremetal node list" in capsys.readouterr().out
