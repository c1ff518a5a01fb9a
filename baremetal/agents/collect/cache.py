"""Collected documents on disk, in the layout of the original.

    <name>.json        what was collected last
    <name>.json.last   what the command last succeeded with
    <name>.json.orig   what was seen first, never changed again
    os_config_files.json   the files of the last collection, in order

All of it readable by its owner only: it holds secrets.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, List, Optional, Sequence, Tuple

LIST = "os_config_files.json"


class Cache:
    """One cache directory. `indent` as json.dumps has it; None is ten times faster."""

    def __init__(self, directory: str, indent: Optional[int] = 1) -> None:
        self.directory = directory
        self.indent = indent

    def path(self, name: str) -> str:
        return os.path.join(self.directory, f"{name}.json")

    def store(self, name: str, content: Any) -> bool:
        """Write it; is it another document than the command last succeeded with?"""
        os.makedirs(self.directory, exist_ok=True)
        path = self.path(name)
        text = json.dumps(content, indent=self.indent).encode("ascii")
        first = not os.path.exists(f"{path}.orig")
        if not same_file(path, text):
            replace(path, text)
        if first:
            replace(f"{path}.orig", text)
        return first or self.pending(name)

    def pending(self, name: str) -> bool:
        """Is there a document that the command has not yet succeeded with? Order of keys and spacing do not count."""
        path = self.path(name)
        if not os.path.exists(path):
            return False
        last = _parsed(f"{path}.last")
        return last is None or last != _parsed(path)

    def commit(self, names: Sequence[str]) -> None:
        """The command succeeded with what is there now."""
        for name in names:
            with open(self.path(name), "rb") as f:
                replace(f"{self.path(name)}.last", f.read())

    def listed(self) -> List[str]:
        """Names of the last collection's sources, in order."""
        found = _parsed(os.path.join(self.directory, LIST))
        paths = found[0] if found is not None and isinstance(found[0], list) else []
        return [os.path.basename(p)[: -len(".json")] for p in paths if isinstance(p, str) and p.endswith(".json")]

    def list(self, names: Sequence[str]) -> List[str]:
        """Write the list; gives the paths."""
        paths = [self.path(name) for name in names]
        os.makedirs(self.directory, exist_ok=True)
        text = json.dumps(paths).encode("ascii")
        where = os.path.join(self.directory, LIST)
        if not same_file(where, text):
            replace(where, text)
        return paths

    def back_up(self, directory: str) -> None:
        """A copy of the whole cache, so that the last state can be read when the cache is lost."""
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self.directory, directory)


def replace(path: str, text: bytes) -> None:
    """Atomically, mode 0600."""
    staged = f"{path}.new"
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as f:
        f.write(text)
    os.rename(staged, path)


def same_file(path: str, text: bytes) -> bool:
    try:
        with open(path, "rb") as f:
            return f.read() == text
    except OSError:
        return False


def _parsed(path: str) -> Optional[Tuple[Any]]:
    """The document in a tuple (it may be null), None when there is none."""
    try:
        with open(path, "rb") as f:
            return (json.loads(f.read()),)
    except (OSError, ValueError, RecursionError):
        return None
