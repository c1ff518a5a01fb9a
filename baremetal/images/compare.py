"""What differs between two builds: packages and files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from baremetal.images.errors import ImageNotFound


@dataclass
class Difference:
    """Each entry says what is in A and what is in B; '' for nothing."""

    packages: dict[str, tuple[str, str]] = field(default_factory=dict)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.packages or self.files)

    def document(self) -> dict[str, object]:
        return {"packages": self.packages, "files": self.files}

    def lines(self) -> list[str]:
        """For people: + only in B, - only in A, ~ in both but different."""
        out = []
        for kind, table in (("package", self.packages), ("file", self.files)):
            for name, (a, b) in sorted(table.items()):
                sign = "+" if not a else "-" if not b else "~"
                what = f"{a} -> {b}" if a and b else a or b
                out.append(f"{sign} {kind} {name} {what}")
        return out or ["no difference"]


def locate(ref: str, cache: Path) -> Path:
    """The directory of a build: a path, a build id, or the newest build of a definition's name."""
    path = Path(ref)
    if (path / "packages.json").exists():
        return path
    root = cache / "images"
    hits = [p for p in root.glob("*") if p.name.startswith(ref) and len(ref) >= 6]
    hits += [p for p in root.glob("*") if _name(p) == ref]
    if not hits:
        raise ImageNotFound(
            f"no build {ref!r}", detail=f"looked in {root}", fix="build it first: baremetal image build"
        )
    return max(hits, key=lambda p: p.stat().st_mtime)


def builds(a: Path, b: Path, *, files: bool = True) -> Difference:
    """Compare two build directories."""
    found = Difference(packages=_differ(_packages(a), _packages(b)))
    if files:
        found.files = _differ(read_files(a / "files.txt"), read_files(b / "files.txt"))
    return found


def _differ(a: dict[str, str], b: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {n: (a.get(n, ""), b.get(n, "")) for n in sorted(a.keys() | b.keys()) if a.get(n) != b.get(n)}


def _packages(directory: Path) -> dict[str, str]:
    return {f"{p['name']}:{p['arch']}": p["version"] for p in json.loads((directory / "packages.json").read_text())}


def read_files(path: Path) -> dict[str, str]:
    """path -> mode, owner, size and digest, from a files.txt."""
    found = {}
    for line in path.read_text(errors="surrogateescape").splitlines():
        left, _, what = line.partition("\t")
        mode, owner, size, name = left.split(" ", 3)
        digest = what if what.startswith("-> ") else what[:12]
        found[name] = f"{mode} {owner} {size} {digest}"
    return found


def _name(directory: Path) -> str:
    try:
        return str(json.loads((directory / "meta.json").read_text())["name"])
    except (OSError, ValueError, KeyError):
        return ""
