"""Package lists of elements, looked at before a build: what package-installs-squash would stumble over or pass by.

Its own rules are diskimage-builder's elements/package-installs/bin/package-installs-squash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from baremetal.images.elements import Element
from baremetal.images.errors import BadElement

NAMES = ("package-installs.json", "package-installs.yaml")
PHASES = ("pre-install.d", "install.d", "post-install.d")


def warnings(elements: Sequence[Element]) -> Iterator[str]:
    """What is in a list and is never installed; BadElement for a list nobody can read."""
    heeded = any(element.name == "package-installs" for element in elements)
    for element in elements:
        for name in NAMES:
            path = element.path / name
            if path.is_file():
                where = f"{element.name}: {name}"
                rows = list(_rows(path.read_bytes(), where))
                if not heeded:
                    yield f"{where} is not read: none of these elements needs package-installs"
                for package, row in rows:
                    phase = row.get("phase", "install.d")
                    if phase not in PHASES:
                        yield f"{where}: {package} is never installed: phase {phase!r} is none of {', '.join(PHASES)}"


def _rows(text: bytes, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(package, its settings) of a list."""
    try:
        document = json.loads(text)
    except ValueError:
        document = _yaml(text, where)
    if not isinstance(document, dict):
        raise BadElement(f"{where}: not a list of packages", fix="lines like `vim:` or `vim: {phase: install.d}`")
    for package, settings in document.items():
        for row in settings if isinstance(settings, list) else [settings or {}]:
            if not isinstance(row, dict):
                raise BadElement(
                    f"{where}: {package}: {row!r} is no setting", fix="like {phase: install.d, arch: amd64}"
                )
            yield str(package), row


def _yaml(text: bytes, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise BadElement(f"{where}: neither YAML nor JSON", detail=str(exc)) from exc
