"""Looks at an element as its author should: names, permissions, dependencies, package lists, shellcheck."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from baremetal.images.elements import ELEMENT_NAME, circle, read_names
from baremetal.images.keys import PHASE_DIRS, PHASES, RUNNABLE


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an element."""

    element: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.element}/{self.where}: {self.what}"


def about(path: Path) -> str:
    """The first sentence of its README."""
    for name in ("README.md", "README.rst"):
        try:
            lines = (path / name).read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        titles = [n for n, line in enumerate(lines) if _is_rule(line)]
        for number, line in enumerate(lines):
            text = line.strip()
            title = number + 1 in titles or (number == 0 and not text.endswith("."))
            if text and not title and not _is_rule(line) and not text.startswith(("..", "#", "|")):
                paragraph = " ".join(itertools.takewhile(bool, (more.strip() for more in lines[number:])))
                return re.split(r"(?<=[a-z)`])\.(?:\s|$)", paragraph)[0].rstrip(":")
    return ""


def _is_rule(line: str) -> bool:
    """A line under or over a title."""
    return len(line.strip()) > 2 and set(line.strip()) <= set('=-~*^"')


def describe(name: str, path: Path, known: Mapping[str, Path]) -> dict[str, object]:
    """For `element show`."""
    scripts = [f"{d}/{f}" for d in PHASE_DIRS if (path / d).is_dir() for f in sorted(os.listdir(path / d))]
    users = [other for other, where in known.items() if name in read_names(where / "element-deps")]
    return {
        "element": name,
        "about": about(path),
        "path": str(path),
        "needs": read_names(path / "element-deps"),
        "provides": read_names(path / "element-provides"),
        "packages": sorted(packages(path)),
        "scripts": scripts,
        "used_by": sorted(users),
    }


def packages(path: Path) -> list[str]:
    """Names in package-installs.yaml or .json."""
    for name in ("package-installs.yaml", "package-installs.json"):
        if (path / name).exists():
            doc = yaml.safe_load((path / name).read_text())
            return list(doc) if isinstance(doc, dict) else []
    return []


def check(name: str, known: Mapping[str, Path]) -> list[Problem]:
    """Everything wrong with one element."""
    path = known.get(name)
    if path is None:
        return [Problem(name, "", "no such element on the path")]
    found = []
    if not ELEMENT_NAME.fullmatch(name):
        found.append(Problem(name, "", "bad name"))
    if not about(path):
        found.append(Problem(name, "README.md", "missing, or without a first sentence"))
    provided = {p for where in known.values() for p in read_names(where / "element-provides")}
    for needed in read_names(path / "element-deps"):
        if needed not in known and needed not in provided:
            found.append(Problem(name, "element-deps", f"needs {needed}, which is nowhere"))
    around = circle(known)
    if name in around:
        found.append(Problem(name, "element-deps", f"a circle: {' -> '.join(around)}"))
    found += _scripts(name, path)
    found += _lists(name, path)
    found += _shellcheck(name, path)
    return found


def _scripts(name: str, path: Path) -> Iterator[Problem]:
    for directory in sorted(p for p in path.iterdir() if p.is_dir() and p.name.endswith(".d")):
        if directory.name not in PHASE_DIRS and directory.name in [f"{p}s.d" for p in PHASES.split()]:
            yield Problem(name, directory.name, "no phase has this name")
        if directory.name not in PHASE_DIRS:
            continue
        for file in sorted(directory.iterdir()):
            if not file.is_file() or directory.name == "environment.d":
                continue
            where = f"{directory.name}/{file.name}"
            runs = os.access(file, os.X_OK)
            if runs and not RUNNABLE.fullmatch(file.name):
                yield Problem(name, where, "dib-run-parts skips this name: letters, digits, dash, underscore only")
            if not runs and not file.name.startswith("package-installs-") and RUNNABLE.fullmatch(file.name):
                yield Problem(name, where, "not executable, so it never runs")
            if runs and not file.read_bytes().startswith(b"#!"):
                yield Problem(name, where, "no #! line")


def _lists(name: str, path: Path) -> Iterator[Problem]:
    for file in ("package-installs.yaml", "package-installs.json", "pkg-map", "svc-map"):
        if not (path / file).exists():
            continue
        text = (path / file).read_text()
        try:
            doc = json.loads(text) if file in ("pkg-map", "package-installs.json") else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as exc:
            yield Problem(name, file, f"cannot be parsed: {str(exc).splitlines()[0]}")
            continue
        if doc is not None and not isinstance(doc, dict):
            yield Problem(name, file, "not a mapping")


def _shellcheck(name: str, path: Path) -> list[Problem]:
    program = shutil.which("shellcheck")
    scripts = [str(p) for p in path.rglob("*") if p.is_file() and _is_shell(p)]
    if not program or not scripts:
        return []
    command = [program, "-f", "gcc", "-S", "warning", "-x", *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = []
    for line in done.stdout.splitlines():
        where, _, what = line.partition(": ")
        found.append(Problem(name, where.removeprefix(f"{path}/"), what))
    return found


def _is_shell(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.readline(64)
    return head.startswith(b"#!") and (b"bash" in head or head.rstrip().endswith(b"/sh") or b"dash" in head)
