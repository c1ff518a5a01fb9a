"""Reads metadata files and merges them into the one document templates see.

Objects merge key by key, anything else replaces; the later file wins. Files
that do not exist are passed over, a broken one is an error that names it.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from baremetal.agents.apply.errors import BadMetadata

DEFAULT_LIST = "/var/lib/os-collect-config/os_config_files.json"
OLD_LIST = "/var/run/os-collect-config/os_config_files.json"
DEFAULT_FALLBACK = (
    "/var/cache/heat-cfntools/last_metadata",
    "/var/lib/heat-cfntools/cfn-init-data",
    "/var/lib/cloud/data/cfn-init-data",
)
MAX_BYTES = 256 * 1024 * 1024  # of one metadata file


class Collected(NamedTuple):
    """The merged document, and which files it came from (those that exist)."""

    values: Dict[str, Any]
    files: Tuple[str, ...]


def load(paths: Iterable[str]) -> Collected:
    """Read and merge, first to last; files whose root is no object add nothing."""
    merged: Dict[str, Any] = {}
    files: List[str] = []
    for path in paths:
        if not path or not os.path.exists(path):
            continue
        document = read(path)
        files.append(path)
        if isinstance(document, dict):
            merged = merge(merged, document, path)
    return Collected(merged, tuple(files))


def read(path: str) -> Any:
    """One file as JSON; BadMetadata names it."""
    try:
        with open(path, "rb") as f:
            raw = f.read(MAX_BYTES + 1)
    except OSError as exc:
        raise BadMetadata(f"cannot read metadata {path}", detail=str(exc.strerror)) from exc
    if len(raw) > MAX_BYTES:
        raise BadMetadata(f"metadata {path} is larger than {MAX_BYTES} bytes")
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise BadMetadata(f"metadata {path} is not JSON", detail=str(exc), fix=f"python3 -m json.tool {path}") from exc


def merge(under: Dict[str, Any], over: Dict[str, Any], where: str = "") -> Dict[str, Any]:
    """A new object: `over` laid on `under`, key by key and deep; keys keep the place of first sight."""
    try:
        return _merge(under, over)
    except RecursionError as exc:
        raise BadMetadata(f"metadata {where} is nested too deep".replace("  ", " ")) from exc


def _merge(under: Dict[str, Any], over: Dict[str, Any]) -> Dict[str, Any]:
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = _merge(below, value)
        result[key] = value
    return result


def sub_hash(values: Dict[str, Any], path: str) -> Dict[str, Any]:
    """The object at a dotted path, to be the root of rendering."""
    here: Any = values
    for part in path.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    if not isinstance(here, dict):
        raise BadMetadata(f"sub-hash {path} is not in the metadata, or is no object")
    return here


def listed(path: str) -> List[str]:
    """The paths in a list file written by the collector; none when it does not exist."""
    if not os.path.exists(path):
        return []
    paths = read(path)
    if not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
        raise BadMetadata(f"{path} does not hold a list of file names")
    return paths
