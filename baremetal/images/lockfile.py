"""Pins an image's packages: name, version, architecture and the package file's SHA-256, as the last build had them."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

from baremetal.images import compare
from baremetal.images.contents import file_sha256
from baremetal.images.definition import Definition
from baremetal.images.errors import BadDefinition

HEADER = "# Packages of this image; made by `baremetal image lock`. name version arch sha256\n"


def write(definition: Definition, cache: Path) -> Path:
    """Write images/<name>.lock beside the definition from its newest build."""
    if definition.source is None:
        raise BadDefinition(f"{definition.name}: only a definition in a file can be locked")
    built = compare.locate(definition.name, cache)
    packages = json.loads((built / "packages.json").read_text())
    meta = json.loads((built / "meta.json").read_text())
    lines = [f"epoch {meta['epoch']}\n"]
    known = digests(cache)
    for p in packages:
        digest = known.get((p["name"], p["version"]), "")
        lines.append(f"{p['name']} {p['version']} {p['arch']} {digest}".rstrip() + "\n")
    path = definition.source.with_suffix(".lock")
    path.write_text(HEADER + "".join(lines))
    return path


def digests(cache: Path) -> dict[tuple[str, str], str]:
    """(name, version) -> SHA-256 of every package file in the cache."""
    found = {}
    for path in sorted((cache / "dib/apt").rglob("*.deb")):
        name, version = path.name.split("_")[:2]
        found[name, urllib.parse.unquote(version)] = file_sha256(str(path))
    return found


def read(path: Path) -> tuple[int, dict[str, str]]:
    """(epoch, name -> version) of a lock file."""
    epoch, found = 0, {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0] == "epoch" and len(words) == 2 and words[1].isdigit():
            epoch = int(words[1])
        elif len(words) in (3, 4):
            found[words[0]] = words[1]
        else:
            raise BadDefinition(f"{path}:{number}: not a lock line: {line[:60]!r}", fix="make it again: image lock")
    return epoch, found


def rows(path: Path) -> list[tuple[str, str, str]]:
    """(name, version, SHA-256 or "") of each package of a lock file."""
    found = []
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) in (3, 4) and not line.startswith("#"):
            found.append((words[0], words[1], words[3] if len(words) == 4 else ""))
    return found


def other_files(path: Path, cache: Path) -> list[str]:
    """Packages whose file in the cache is not the one that was locked: the same version with other content."""
    known = digests(cache)
    return [
        f"{name} {version} is another file than the one locked (sha256 {digest[:12]}…)"
        for name, version, digest in rows(path)
        if digest and known.get((name, version), digest) != digest
    ]


def preferences(pins: dict[str, str]) -> str:
    """apt preferences that take exactly these versions, and fail for a version that is gone."""
    return "".join(f"Package: {n}\nPin: version {v}\nPin-Priority: 1001\n\n" for n, v in sorted(pins.items()))


def departures(pins: dict[str, str], installed: dict[str, str]) -> list[str]:
    """What the tree has otherwise than the lock says."""
    words = []
    for name in sorted(pins.keys() | installed.keys()):
        if name not in installed:
            words.append(f"{name} {pins[name]} is missing")
        elif name not in pins:
            words.append(f"{name} {installed[name]} is not in the lock")
        elif pins[name] != installed[name]:
            words.append(f"{name} is {installed[name]}, locked {pins[name]}")
    return words
