"""Sources that are files: local directories, heat_local files, the resident agent's document."""

from __future__ import annotations

import json
import os
import stat
from typing import Any, Dict, List

from baremetal.agents.collect.errors import NotConfigured, Unavailable
from baremetal.agents.collect.options import Settings
from baremetal.agents.collect.split import Source, usable


def local(settings: Settings) -> List[Source]:
    """Every plain file of each directory, a source by its full name, in C order over all directories.

    Whoever can write there commands this machine: the directory must be ours and
    nothing in it writable by all. One offender, or one broken file, and the
    whole source is unavailable.
    """
    found: Dict[str, str] = {}
    seen = False
    for directory in settings["local", "path"]:
        if not os.path.isdir(directory):
            continue
        seen = True
        _trusted(directory)
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if name.startswith(".") or not os.path.isfile(path):
                continue
            if os.stat(path).st_mode & stat.S_IWOTH:
                raise Unavailable(f"{path} is writable by everybody: local data is not trusted")
            if usable(name):
                found[name] = path
    if not seen:
        raise Unavailable("no local directory exists", detail=", ".join(settings["local", "path"]))
    return [(name, _read(found[name])) for name in sorted(found, key=os.fsencode)]


def heat_local(settings: Settings) -> List[Source]:
    """Each file in turn; root keys of a later one replace those of an earlier one. A bad file is passed over."""
    merged: Dict[str, Any] = {}
    for path in settings["heat_local", "path"]:
        try:
            document = _read(path)
        except Unavailable:
            continue
        if isinstance(document, dict):
            merged.update(document)
    if not merged:
        raise Unavailable("no heat_local file has metadata", detail=", ".join(settings["heat_local", "path"]))
    return [("heat_local", merged)]


def baremetal(settings: Settings) -> List[Source]:
    """The values of the last verified document of the resident agent."""
    path = settings["baremetal", "path"]
    if not os.path.exists(path):
        raise NotConfigured("the resident agent has no document yet")
    document = _read(path)
    values = document.get("values") if isinstance(document, dict) else None
    if not isinstance(values, dict):
        raise Unavailable(f"{path} is no metadata document")
    return [("baremetal", {**values, "deployments": document.get("deployments", [])})]


def _trusted(directory: str) -> None:
    status = os.stat(directory)
    if status.st_uid != os.geteuid():
        raise Unavailable(f"{directory} belongs to another user: local data is not trusted")
    if status.st_mode & stat.S_IWOTH:
        raise Unavailable(f"{directory} is writable by everybody: local data is not trusted")


def _read(path: str) -> Any:
    try:
        with open(path, "rb") as f:
            return json.loads(f.read().decode("utf-8"))
    except OSError as exc:
        raise Unavailable(f"cannot read {path}", detail=str(exc.strerror)) from exc
    except (ValueError, RecursionError) as exc:
        raise Unavailable(f"{path} is not JSON", detail=str(exc)) from exc
